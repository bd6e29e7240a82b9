"""Models that OpenVINO compiled once, with how their decoders are cut, in the cache folder.

Most of the time between a slide's name and its first tile went into compiling: half a second for
``nuclei`` at int8. What comes of it fits one file, one version, one processor, one tile, and the
way this package puts a graph in order.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from cellseg.runtime.engines.built import BuiltFiles
from cellseg.runtime.engines.openvino_trim import Trimmer
from cellseg.runtime.machine.facts import this_machine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BytesIO

    from cellseg.runtime.engines.base import EngineOptions

__all__ = ["Compiled", "compiled_key", "forget_compiled", "recall_compiled", "store_compiled"]

COMPILED = BuiltFiles("openvino", ".blob", kept=16)
"""Compiled models."""

_MOST_BYTES = 32 << 20  # of large networks compiling is the least part, and the folder stays small


class Compiled(NamedTuple):
    """A model that was compiled before."""

    data: bytes
    """As OpenVINO exports it."""

    trimmer: Trimmer | None
    """How it is cut."""


def compiled_key(
    model: bytes, options: EngineOptions, settings: Mapping[str, object], version: str
) -> dict[str, object]:
    """Return all that a compiled model depends on, as plain values.

    Parameters
    ----------
    model : bytes
        The file.
    options : EngineOptions
        What it is opened for.
    settings : mapping
        What OpenVINO is told.
    version : str
        Of OpenVINO.
    """
    machine = this_machine()
    return {
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "openvino": version,
        "cpu": machine.cpu,
        "cpu_flags": list(machine.cpu_flags or ()),
        "cores": machine.cores,
        "input": list(options.input_shape),
        "channels": options.channels,
        "one_at_a_time": options.one_at_a_time,
        "settings": {name: str(value) for name, value in settings.items()},
        "order": _way_of_ordering(),
    }


def recall_compiled(key: Mapping[str, object]) -> Compiled | None:
    """Return the model that was kept under a key."""
    built = COMPILED.recall(key)
    if built is None:
        return None
    try:
        return Compiled(built.data, _trimmers().validate_python(built.facts["trimmer"]))
    except (KeyError, ValidationError):
        return None


def store_compiled(key: Mapping[str, object], exported: BytesIO, trimmer: Trimmer | None) -> None:
    """Keep a compiled model."""
    data = exported.getvalue()
    if len(data) <= _MOST_BYTES:
        facts = {"trimmer": None if trimmer is None else asdict(trimmer)}
        COMPILED.store(key, data, facts)


def forget_compiled(key: Mapping[str, object]) -> None:
    """Remove a model that OpenVINO does not open any more."""
    COMPILED.forget(key)


@functools.cache
def _trimmers() -> TypeAdapter[Any]:
    return TypeAdapter(Trimmer | None)


@functools.cache
def _way_of_ordering() -> str:
    """Return what changes with any of the modules that put a graph in order."""
    found = hashlib.sha256()
    for module in sorted(Path(__file__).parent.glob("openvino*.py")):
        found.update(module.read_bytes())
    return found.hexdigest()[:16]
