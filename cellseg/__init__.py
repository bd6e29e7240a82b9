"""Small, fast, honest segmentation of cells, from recipe to gigapixel slide.

>>> import cellseg
>>> cellseg.segment("slide.tif", model="nuclei")  # doctest: +SKIP

Nothing heavy is imported until a name is used (PEP 562), so that ``import cellseg`` costs
next to nothing and a device never loads what it does not run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cellseg.errors import (
    BundleError,
    CellsegError,
    DataError,
    EngineError,
    ExportError,
    RecipeError,
    SlideError,
    StoreError,
    TilePlanError,
)

if TYPE_CHECKING:
    from cellseg.live.session import LiveSession
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.segmentation import Segmentation
    from cellseg.runtime.segmenter import Segmenter, segment

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "BundleError",
    "CellsegError",
    "DataError",
    "EngineError",
    "ExportError",
    "LiveSession",
    "RecipeError",
    "Segmentation",
    "Segmenter",
    "SlideError",
    "StoreError",
    "TilePlanError",
    "__version__",
    "segment",
]

_LAZY = {  # name: module that holds it
    "Bundle": "cellseg.runtime.bundles.bundle",
    "LiveSession": "cellseg.live.session",
    "Segmentation": "cellseg.runtime.segmentation",
    "Segmenter": "cellseg.runtime.segmenter",
    "segment": "cellseg.runtime.segmenter",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
