"""What the library gives back: of an image its arrays, of a slide what reads its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from cellseg.errors import StoreError
from cellseg.runtime.cells.files import CellFile
from cellseg.runtime.store.lazy import LazyLabels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cellseg.runtime.cells.table import CellTable
    from cellseg.runtime.infer import RunResult

__all__ = ["Segmentation", "SlideSegmentation"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a model sees in one image, pixel for pixel of that image."""

    classes: NDArray[np.uint8]
    """Class index, uint8 (H, W); 0 is background."""

    labels: NDArray[np.uint32] | None
    """Cells numbered from 1, uint32 (H, W); None if the model does not tell cells apart."""

    probabilities: NDArray[np.float32]
    """The network's channels, float32 (H, W, C)."""

    class_names: tuple[str, ...]
    """Name of each class index."""

    channel_names: tuple[str, ...]
    """Name of each channel of ``probabilities``."""

    doubts: tuple[str, ...] = ()
    """What is strange about the image or its cells, such as pixels too large for the model."""

    measure: Callable[[], CellTable] | None = field(default=None, repr=False)
    """Measures the cells; `cells` calls it once."""

    @cached_property
    def cells(self) -> CellTable | None:
        """Table of the cells, columns by name; measured when it is asked for first.

        None if the model does not tell cells apart. ``id`` is the number in ``labels``; columns are
        those of `cellseg.runtime.cells.table.COLUMNS`.
        """
        return None if self.measure is None else self.measure()

    @property
    def cell_count(self) -> int | None:
        """Number of cells; None if they are not told apart."""
        return None if self.labels is None else int(self.labels.max(initial=0))


class SlideSegmentation:
    """A finished run, its arrays read from the files when they are asked for.

    Attributes
    ----------
    folder : Path
        Where the files are.
    report : dict
        Content of ``run.json``.
    """

    def __init__(self, result: RunResult) -> None:
        self.folder = result.folder
        self.report = result.report
        self._files = result.files

    @property
    def classes(self) -> LazyLabels:
        """Class map at the working level; ``classes[y0:y1, x0:x1]`` reads that window."""
        return LazyLabels(self._written("classes.ome.tif"))

    @property
    def labels(self) -> LazyLabels | None:
        """Cells numbered from 1; None where they were not told apart."""
        path = self._files.get("labels.ome.tif")
        return None if path is None else LazyLabels(path)

    @property
    def overlay(self) -> Path:
        """Path of the picture of the result."""
        return self._written("overlay.jpg")

    @property
    def cells(self) -> CellFile | None:
        """Table of cells: columns by name, each read when it is asked for; None without one."""
        for name in ("cells.parquet", "cells.csv"):
            if name in self._files:
                return CellFile(self._files[name])
        return None

    def __repr__(self) -> str:
        return f"SlideSegmentation({str(self.folder)!r}: {', '.join(self._files)})"

    def _written(self, name: str) -> Path:
        if name not in self._files:
            raise StoreError(
                f"Only what was written can be read. Received: {name}, and in {self.folder} are "
                f"{', '.join(self._files)}.",
                hint="Leave out write=, or name it there: what is missing is added.",
            )
        return self._files[name]
