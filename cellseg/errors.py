"""Errors this package raises on purpose.

The tree::

    CellsegError
    ├── SlideError       an image or slide cannot be opened, read, or lacks its pixel size
    ├── BundleError      a .cellseg file is missing, damaged or not what it says
    ├── EngineError      an inference engine is missing or failed
    ├── RegionError      a region of interest or a tissue mask cannot be used
    ├── TilePlanError    tile, halo, stride and extent do not fit together
    ├── RingError        a shared-memory ring of frames is missing, damaged or not ours
    ├── StoreError       a result folder belongs to another run, is in use or cannot be written
    ├── RecipeError      a training recipe is wrong
    ├── SourceError      a camera, video or folder of frames is not there or cannot be read
    ├── RuleError        a rule of a live run is no condition, or names what there is not
    ├── DataError        training or evaluation images do not fit together
    ├── TrainingError    a training run cannot go on
    ├── ExportError      a model cannot be exported or misses its quality bar
    └── BenchError       a benchmark cannot be run, or its reports cannot be compared

``str(error)`` is the message; ``error.hint`` says how to mend it, where that is known.
The command line prints them as ``error: …`` and ``hint: …`` and exits with 1.
"""

from __future__ import annotations

__all__ = [
    "DOCTOR_HINT",
    "BenchError",
    "BundleError",
    "CellsegError",
    "DataError",
    "EngineError",
    "ExportError",
    "RecipeError",
    "RegionError",
    "RingError",
    "RuleError",
    "SlideError",
    "SourceError",
    "StoreError",
    "TilePlanError",
    "TrainingError",
    "broken_package",
]

DOCTOR_HINT = "'cellseg-cli doctor' says what is wrong."


class CellsegError(Exception):
    """Base of every error this package raises on purpose.

    Parameters
    ----------
    message : str
        The rule that was broken, then ``Received: name=value.``
    hint : str, optional
        One sentence that says how to mend it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class SlideError(CellsegError, ValueError):
    """An image or slide cannot be opened or read, or lacks its pixel size."""


class BundleError(CellsegError, ValueError):
    """A ``.cellseg`` file is missing, damaged or not what its manifest says."""


class EngineError(CellsegError, RuntimeError):
    """An inference engine is not installed, refused the model or failed while running."""


class RegionError(CellsegError, ValueError):
    """A region of interest or a tissue mask cannot be read or does not fit the slide."""


class TilePlanError(CellsegError, ValueError):
    """Tile, halo, stride and slide extent do not fit together."""


class RingError(CellsegError, RuntimeError):
    """A ring of frames in shared memory is missing, damaged, of another version or in use."""


class StoreError(CellsegError, RuntimeError):
    """A result folder belongs to another run, is in use, or cannot be written."""


class RecipeError(CellsegError, ValueError):
    """A training recipe holds an unknown key or an impossible value."""


class SourceError(CellsegError, OSError):
    """A camera, video or folder that frames were to come from is not there or cannot be read."""


class RuleError(CellsegError, ValueError):
    """A rule of a live run is no condition, or names what there is not."""


class DataError(CellsegError, ValueError):
    """Images, masks and labels do not fit together."""


class TrainingError(CellsegError, RuntimeError):
    """A training run cannot go on: its loss is no number."""


class ExportError(CellsegError, RuntimeError):
    """A model cannot be exported, or the exported one misses its quality bar."""


class BenchError(CellsegError):
    """A benchmark cannot be run, or its reports cannot be compared."""


def broken_package(error: BaseException) -> CellsegError | None:
    """Say in our words that a package does not load; None if it is not that.

    A module of our own that cannot be imported is a fault of ours, and stays what it is.

    Examples
    --------
    >>> print(broken_package(ImportError("no libGL.so.1")))
    The packages that a run needs must load. Received: ImportError: no libGL.so.1.
    >>> broken_package(ImportError("no such name", name="cellseg.runtime")) is None
    True
    """
    if not isinstance(error, ImportError) or str(error.name).partition(".")[0] == "cellseg":
        return None
    return CellsegError(
        "The packages that a run needs must load. "
        f"Received: {type(error).__name__}: {str(error).rstrip('.')}.",
        hint=DOCTOR_HINT,
    )
