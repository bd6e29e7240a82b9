"""Reads the table of cells of a run, whichever form it was written in."""

from __future__ import annotations

import csv
import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_cells"]

_NEEDED = (
    "id", "class", "x_px", "y_px", "x0_px", "y0_px", "x1_px", "y1_px", "area_px", "touches_border",
)  # fmt: skip
_MEASURED = (
    "area_um2", "equivalent_diameter_um", "eccentricity", "solidity", "hematoxylin_od", "dab_od",
)  # fmt: skip


def read_cells(folder: Path) -> Mapping[str, NDArray[Any]] | None:
    """Read the columns that a report shows.

    Parameters
    ----------
    folder : Path
        Of a finished run.

    Returns
    -------
    mapping of column to array, or None
        None where the run made no table, or its form cannot be read here (Parquet without
        pyarrow). Numbers that are not known are NaN.
    """
    parquet, text = folder / "cells.parquet", folder / "cells.csv"
    found = None
    if parquet.is_file() and importlib.util.find_spec("pyarrow") is not None:
        found = _from_parquet(parquet)
    elif text.is_file():
        found = _from_csv(text)
    return found if found is not None and set(_NEEDED) <= found.keys() else None


def _from_parquet(path: Path) -> dict[str, NDArray[Any]]:
    from pyarrow import parquet

    there = set(parquet.read_schema(path).names)
    wanted = [name for name in (*_NEEDED, *_MEASURED) if name in there]
    table = parquet.read_table(path, columns=wanted)
    columns = {}
    for name in wanted:
        values = table.column(name)
        if name == "class":
            columns[name] = np.array(values.to_pylist(), np.str_)
        else:
            columns[name] = np.asarray(values.to_numpy())
    return columns


def _from_csv(path: Path) -> dict[str, NDArray[Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        head = next(lines, [])
        wanted = [name for name in (*_NEEDED, *_MEASURED) if name in head]
        places = [head.index(name) for name in wanted]
        columns: list[list[str]] = [[] for _ in wanted]
        for line in lines:
            for column, place in zip(columns, places, strict=True):
                column.append(line[place])
    return {name: _parsed(name, texts) for name, texts in zip(wanted, columns, strict=True)}


def _parsed(name: str, texts: list[str]) -> NDArray[Any]:
    if name == "class":
        return np.array(texts, np.str_)
    if name == "touches_border":
        return np.array([text.lower() in ("true", "1") for text in texts], bool)
    kind = np.int64 if name in ("id", "area_px") else np.float64
    return np.array([text or "nan" for text in texts]).astype(kind)
