"""Inference engines: one small Protocol, one table, imported when chosen.

An engine runs one variant of a bundle on tiles of one fixed shape. Layout, quantization and threads
are its own affair; callers see uint8 RGB in and float32 channels out. :func:`open_engine` is the
way to get one; ``open_engine(bundle, tile_hw=(1024, 1024))`` picks the fastest that is good enough.

Nothing is imported until a name is used (PEP 562): the table can be read where NumPy does not load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_LAZY = {  # name: module that holds it
    "ENGINES": "cellseg.runtime.engines.table",
    "Choice": "cellseg.runtime.engines.select",
    "Engine": "cellseg.runtime.engines.base",
    "EngineEntry": "cellseg.runtime.engines.table",
    "EngineOptions": "cellseg.runtime.engines.base",
    "choose_engine": "cellseg.runtime.engines.select",
    "open_engine": "cellseg.runtime.engines.select",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value  # the next look-up does not come here
    return value
