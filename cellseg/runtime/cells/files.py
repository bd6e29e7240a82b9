"""Tables of cells in result files, read column by column when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.cells.table import COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["CellFile"]


class CellFile(Mapping[str, "NDArray[Any]"]):
    """Columns of ``cells.parquet`` or ``cells.csv`` by name; ``len`` counts the columns.

    Parameters
    ----------
    path : Path
        One of the two.

    Attributes
    ----------
    path : Path
        For readers that want the file itself: pandas, DuckDB, geopandas.
    names : tuple of str
        Columns; ``geometry`` is in Parquet only.

    Examples
    --------
    >>> cells = CellFile(folder / "cells.parquet")  # doctest: +SKIP
    >>> cells["area_um2"].mean()  # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: dict[str, NDArray[Any]] = {}
        in_parquet = ("geometry",) if path.suffix == ".parquet" else ()
        self.names = (*(column.name for column in COLUMNS), *in_parquet)

    @property
    def cell_count(self) -> int:
        """Number of rows."""
        return len(self["id"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.names:
            raise KeyError(name)
        if name not in self._read:
            parquet = self.path.suffix == ".parquet"
            self._read |= {name: self._parquet(name)} if parquet else _from_csv(self.path)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"CellFile({self.path})"

    def _parquet(self, name: str) -> NDArray[Any]:
        import pyarrow.parquet as pq

        found = pq.read_table(self.path, columns=[name]).column(0)
        return np.asarray(found.to_numpy())


def _from_csv(path: Path) -> dict[str, NDArray[Any]]:
    """Read all columns: a line of text holds them all anyway."""
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    texts = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    found = {}
    for column, values in zip(COLUMNS, texts, strict=True):
        if column.dtype == "U":
            found[column.name] = np.array(values, dtype=str)
        elif column.dtype == "?":
            found[column.name] = np.array([value == "true" for value in values], bool)
        else:
            numbers = [float(value) if value else np.nan for value in values]
            found[column.name] = np.array(numbers).astype(column.dtype)
    return found
