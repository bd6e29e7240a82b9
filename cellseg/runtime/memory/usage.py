"""What an engine takes of memory: what is expected of it, or what it took with this network here.

No formula knows what a network takes that it has not seen: a pixel of a wide one at full resolution
takes ten times what it takes of a narrow one behind a stride-2 stem. So where a budget is to be
kept, two small tiles are run once, and what they took is remembered beside the choice of the
engine. What the run's own tile takes is seen before the first tile of the run.
"""

from __future__ import annotations

import logging
from contextlib import closing, suppress
from dataclasses import dataclass
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.engines.memory import recall, remember
from cellseg.runtime.engines.select import open_choice
from cellseg.runtime.engines.table import ENGINES
from cellseg.runtime.machine.facts import this_machine
from cellseg.runtime.memory.budget import EngineUsage, resident_bytes

if TYPE_CHECKING:
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.engines import Choice, Engine

__all__ = ["expected_usage", "measured_usage", "try_engine"]

_LOG = logging.getLogger(__name__)
_BYTES_PER_PX = {"openvino": 256, "onnxruntime": 448, "litert": 320}
_UNKNOWN_BYTES_PER_PX = 448
_SIDES_PX = (256, 768)
_MARGIN = 1.1  # from trial to trial it differs by a few percent
_KNOWN: dict[str, EngineUsage] = {}


def expected_usage(engine: str) -> EngineUsage:
    """Return what an engine is expected to take: above what was measured, not a promise.

    A UNet of 0.5 million parameters with a stride-2 stem takes 80 to 206 bytes a pixel in OpenVINO,
    one of 1.1 million 364 to 400 in ONNX Runtime and 161 to 279 in LiteRT, at float32 and int8. A
    network that is wider at full resolution takes more.

    Parameters
    ----------
    engine : str
        Its name.
    """
    return EngineUsage(0, _BYTES_PER_PX.get(engine, _UNKNOWN_BYTES_PER_PX))


def measured_usage(
    bundle: Bundle, choice: Choice, threads: int, most_bytes: int | None = None
) -> EngineUsage:
    """Return what an engine takes with a network on this machine, by a trial or as remembered.

    Parameters
    ----------
    bundle : Bundle
        The network.
    choice : Choice
        Engine, precision and file.
    threads : int
        Threads it computes with.
    most_bytes : int, optional
        What the trial may take; a network that might take more is judged by the smaller tile.

    Returns
    -------
    EngineUsage
        What is expected of it, where the system does not tell, or where opening an engine takes
        minutes.
    """
    if ENGINES[choice.engine].needs_gpu or resident_bytes() is None:
        return expected_usage(choice.engine)
    machine = this_machine()
    key: dict[str, object] = {
        "what": "memory",
        "bundle": bundle.sha256,
        "cpu": machine.cpu,
        "flags": machine.cpu_flags,
        "threads": threads,
        "choice": str(choice),
        "version": ENGINES[choice.engine].installed_version,
    }
    name = str(key)
    if name not in _KNOWN:
        trial = _Trial(bundle, choice, threads)
        trial.taken(_SIDES_PX[0])  # loads the engine's libraries, which belong to a run's base
        _KNOWN[name] = _recalled(key) or _measured(trial, key, most_bytes)
    return _KNOWN[name]


def _measured(trial: _Trial, key: dict[str, object], most_bytes: int | None) -> EngineUsage:
    """Run a small tile and a larger one; the difference is what pixels take."""
    small_px, large_px = (trial.px(side) for side in _SIDES_PX)
    small = trial.taken(_SIDES_PX[0])
    if most_bytes is not None and small * large_px / small_px > most_bytes:
        usage = EngineUsage(0, small / small_px)
    else:
        per_px = max(0.0, (trial.taken(_SIDES_PX[1]) - small) / (large_px - small_px))
        usage = EngineUsage(max(0, round(small - per_px * small_px)), per_px)
    remember(key, f"{usage.fixed_bytes},{usage.bytes_per_px:.1f}")
    _LOG.info(
        "memory: %s takes %.0f bytes a pixel and %d MiB, tried just now",
        *(trial.choice, usage.bytes_per_px, usage.fixed_bytes >> 20),
    )
    return usage


def _recalled(key: dict[str, object]) -> EngineUsage | None:
    """Return what is known; None if nothing is, or the entry is not ours."""
    with suppress(ValueError):
        fixed, per_px = (recall(key) or "").split(",")
        return EngineUsage(int(fixed), float(per_px))
    return None


@dataclass(frozen=True)
class _Trial:
    """An engine, to be opened for tiles of some sizes."""

    bundle: Bundle
    choice: Choice
    threads: int

    def px(self, side: int) -> int:
        """Return the pixels of a tile of about this side."""
        return self._side(side) ** 2

    def taken(self, side: int) -> float:
        """Return the bytes that the engine took for one tile, and some to be on the safe side."""
        before = resident_bytes()
        hw = (self._side(side),) * 2
        engine = open_choice(self.bundle, self.choice, hw, self.threads, most_at_once=1)
        with closing(engine):
            return try_engine(engine, before) * _MARGIN

    def _side(self, side: int) -> int:
        stride = self.bundle.manifest.stride
        return -(-side // stride) * stride


def try_engine(engine: Engine, before_bytes: int | None) -> int:
    """Let an engine work on as many tiles at once as it ever will; return what it took, bytes.

    Parameters
    ----------
    engine : Engine
        Open, and not used yet.
    before_bytes : int or None
        `resident_bytes` before it was opened.

    Returns
    -------
    int
        0 where the system does not tell.
    """
    tile = np.zeros((*engine.tile_hw, 3), np.uint8)
    together = Barrier(engine.concurrency)

    def work() -> None:
        together.wait()
        with suppress(Exception):  # a tile of the run will fail in the same way, and be named
            engine.infer(tile)

    threads = [Thread(target=work, daemon=True) for _ in range(engine.concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = resident_bytes()
    return 0 if after is None or before_bytes is None else max(0, after - before_bytes)
