"""Engines that were built once are kept: files in the cache folder, found by all they depend on.

An engine fits one model, one TensorRT, one kind of GPU with its driver, and one tile. The key names
them all, so that an engine of another GPU, or from before an update, is never looked at; it is
built anew. Each engine lies beside a JSON file that says its key in words and its hash, and an
engine that does not have that hash is built anew too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cellseg.runtime.engines.memory import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "EngineKey",
    "engine_folder",
    "forget",
    "recall_engine",
    "recall_extra",
    "store_engine",
    "store_extra",
]

_BUILD = 1  # raise it when engines are built in another way
_KEPT = 32  # engines; the oldest go first


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on."""

    model_sha256: str
    """Of the ONNX file."""

    package: str
    """``tensorrt`` or ``tensorrt_rtx``."""

    version: str
    """Of the package, in full."""

    gpu: str
    """Name of the GPU; empty for one that was built for without it."""

    capability: str
    """Compute capability, e.g. ``8.6``."""

    memory_mb: int
    """Memory of the GPU: tactics are chosen by it. 0 where built without the GPU."""

    driver: int
    """CUDA version of the driver; 0 where built without it."""

    tile_hw: tuple[int, int]
    """The profile: every tile's height and width."""

    flags: tuple[str, ...] = ("typed",)
    """How it was built."""

    build: int = _BUILD
    """Way of building."""

    @property
    def digest(self) -> str:
        """Name of its files."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def device_digest(self) -> str:
        """What measurements of tactics depend on: all but model and tile."""
        known = {k: v for k, v in asdict(self).items() if k not in ("model_sha256", "tile_hw")}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]


def engine_folder() -> Path:
    """Folder of built engines; it may be deleted at any time."""
    return cache_folder() / "tensorrt"


def recall_engine(key: EngineKey) -> bytes | None:
    """Return the engine that was stored under the key; None if there is none that is whole."""
    try:
        plan = _plan_file(key).read_bytes()
        facts = json.loads(_facts_file(key).read_text(encoding="utf-8"))
        known = facts["key"] == _plain(key) and facts["sha256"] == hashlib.sha256(plan).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return plan if known else None


def store_engine(key: EngineKey, plan: bytes, facts: dict[str, object]) -> None:
    """Keep an engine; a folder that cannot be written is no error.

    Parameters
    ----------
    key : EngineKey
        What it depends on.
    plan : bytes
        The engine.
    facts : dict
        More to say of it, as plain values.
    """
    described = {"key": _plain(key), "sha256": hashlib.sha256(plan).hexdigest(), **facts}
    with contextlib.suppress(OSError):
        engine_folder().mkdir(parents=True, exist_ok=True)
        _write(_plan_file(key), plan)
        _write(_facts_file(key), (json.dumps(described, indent=1) + "\n").encode())
        _drop_oldest()


def recall_extra(name: str) -> bytes:
    """Return a timing or runtime cache; nothing if there is none."""
    try:
        return (engine_folder() / name).read_bytes()
    except OSError:
        return b""


def store_extra(name: str, data: bytes) -> None:
    """Keep a timing or runtime cache; it only saves time, so failing is no error."""
    if data:
        with contextlib.suppress(OSError):
            engine_folder().mkdir(parents=True, exist_ok=True)
            _write(engine_folder() / name, data)


def forget(key: EngineKey) -> None:
    """Remove an engine that turned out not to open."""
    for file in (_plan_file(key), _facts_file(key)):
        file.unlink(missing_ok=True)


def _plain(key: EngineKey) -> dict[str, object]:
    plain: dict[str, object] = json.loads(json.dumps(asdict(key)))
    return plain


def _plan_file(key: EngineKey) -> Path:
    return engine_folder() / f"{key.digest}.engine"


def _facts_file(key: EngineKey) -> Path:
    return engine_folder() / f"{key.digest}.json"


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)


def _drop_oldest() -> None:
    plans = sorted(engine_folder().glob("*.engine"), key=lambda path: path.stat().st_mtime)
    for plan in plans[:-_KEPT]:
        plan.unlink(missing_ok=True)
        plan.with_suffix(".json").unlink(missing_ok=True)
