"""Cells as a table of text, one row a cell: for spreadsheets, and where pyarrow is missing."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.cells.table import COLUMNS, CellFrame, cell_columns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.cells.table import Column
    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["quoted", "write_cells_csv"]


def write_cells_csv(path: Path, run: FinishedRun) -> None:
    """Write all cells of a run; what is not known is left blank."""
    frame = CellFrame.of(run.job)
    names = [quoted(name) for name in frame.class_names]
    done = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(column.name for column in COLUMNS) + "\n")
        for batch in run.measured.batches():
            columns = cell_columns(batch, frame, done + 1)
            texts = [_texts(column, columns[column.name], names) for column in COLUMNS]
            file.writelines(f"{','.join(row)}\n" for row in zip(*texts, strict=True))
            done += len(batch)


def _texts(column: Column, values: NDArray[Any], names: Sequence[str]) -> list[str]:
    if column.dtype == "U":
        return [names[index] for index in values.tolist()]
    if column.dtype == "?":
        return ["true" if value else "false" for value in values.tolist()]
    form = f"%.{column.decimals}f"
    return ["" if np.isnan(value) else form % value for value in values.tolist()]


def quoted(name: str) -> str:
    """Return a field as the csv module writes it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([name])
    return text.getvalue()
