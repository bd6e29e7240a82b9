"""Columns of all cells of a run that is being written: what pictures are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.cells.table import CellFrame, cell_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["run_columns"]


def run_columns(run: FinishedRun, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Gather columns of all cells of a run; ``class`` as names.

    Only these are held: about eight bytes a cell and column.
    """
    frame = CellFrame.of(run.job)
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    done = 0
    for batch in run.measured.batches():
        columns = cell_columns(batch, frame, done + 1)
        for name in names:
            parts[name].append(columns[name])
        done += len(batch)
    found = {
        name: np.concatenate(lots) if lots else np.zeros(0, _EMPTY.get(name, "f8"))
        for name, lots in parts.items()
    }
    if "class" in found:
        found["class"] = np.array(frame.class_names)[found["class"]]
    return found


_EMPTY = {"id": "u4", "class": "u1", "area_px": "u4", "touches_border": "?"}
