"""Inference engines: one small Protocol, one table, imported when chosen.

An engine runs one variant of a bundle on tiles of one fixed shape. Layout, quantization and threads
are its own affair; callers see uint8 RGB in and float32 channels out. :func:`open_engine` is the
way to get one; ``open_engine(bundle, tile_hw=(1024, 1024))`` picks the fastest that is good enough.
"""

from __future__ import annotations

from cellseg.runtime.engines.base import Engine, EngineOptions
from cellseg.runtime.engines.select import Choice, choose_engine, open_engine
from cellseg.runtime.engines.table import ENGINES, EngineEntry

__all__ = [
    "ENGINES",
    "Choice",
    "Engine",
    "EngineEntry",
    "EngineOptions",
    "choose_engine",
    "open_engine",
]
