"""Cells as GeoParquet: one row a cell, outlines as well-known binary in level-0 pixels.

References
----------
.. [1] https://geoparquet.org/releases/v1.1.0
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.cells.table import COLUMNS, CellFrame, cell_columns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.cells.measured import MeasuredCells
    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["write_cells_parquet"]

_GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {
        "geometry": {
            "encoding": "WKB",
            "geometry_types": ["Polygon", "MultiPolygon"],
            "crs": None,  # pixels lie nowhere on Earth
            "edges": "planar",
            "orientation": "counterclockwise",
        }
    },
}
_ARROW = {"u4": "uint32", "f4": "float32", "f8": "float64", "?": "bool_", "U": "string"}


def write_cells_parquet(path: Path, run: FinishedRun) -> None:
    """Write all cells of a run; needs pyarrow. A lot of cells is a row group."""
    import pyarrow.parquet as pq

    frame, schema = CellFrame.of(run.job), _schema()
    done = 0
    # Numbers that hardly repeat are no words of a dictionary.
    few = ["class"]
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=few) as writer:
        for batch in run.measured.batches():
            if len(batch):
                writer.write_batch(_record_batch(batch, frame, done + 1, schema))
            done += len(batch)


def _schema() -> Any:
    import pyarrow as pa

    fields = [pa.field(c.name, getattr(pa, _ARROW[c.dtype])()) for c in COLUMNS]
    fields.append(pa.field("geometry", pa.binary()))
    return pa.schema(fields, metadata={"geo": json.dumps(_GEO)})


def _record_batch(cells: MeasuredCells, frame: CellFrame, first_id: int, schema: Any) -> Any:
    import pyarrow as pa

    columns = cell_columns(cells, frame, first_id)
    arrays = [
        _texts(columns[column.name], frame.class_names)
        if column.dtype == "U"
        else _numbers(columns[column.name], schema.field(column.name).type)
        for column in COLUMNS
    ]
    return pa.record_batch([*arrays, _geometry(cells, frame)], schema=schema)


def _numbers(values: NDArray[Any], kind: Any) -> Any:
    """Return a column of numbers; what is not a number is null.

    Made from buffers: ``pyarrow.array`` would first load pandas wherever it is installed.
    """
    import pyarrow as pa

    is_number = ~np.isnan(values)
    nulls = len(values) - int(is_number.sum())
    valid = pa.py_buffer(np.packbits(is_number, bitorder="little")) if nulls else None
    data = np.packbits(values, bitorder="little") if values.dtype == np.bool_ else values
    buffers = [valid, pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(kind, len(values), buffers, nulls)


def _texts(indices: NDArray[Any], names: Sequence[str]) -> Any:
    """Return a column of one of a few texts each."""
    import pyarrow as pa

    encoded = [name.encode() for name in names]
    sizes = np.array([len(name) for name in encoded], np.int32)
    ends = np.concatenate(([0], np.cumsum(sizes[indices]))).astype(np.int32)
    data = b"".join([encoded[index] for index in indices.tolist()])
    return pa.StringArray.from_buffers(len(indices), pa.py_buffer(ends), pa.py_buffer(data))


def _geometry(cells: MeasuredCells, frame: CellFrame) -> Any:
    """Return the outlines as an Arrow array of WKB."""
    import pyarrow as pa

    from cellseg.runtime.kernels.wkb import put_wkb

    outlines = cells.outlines
    points = frame.outline_points(cells)
    rings = len(outlines.ring_sizes)
    ends = np.empty(len(cells) + 1, np.int32)
    out = np.empty(16 * (len(points) + rings) + 18 * rings + 9 * len(cells), np.uint8)
    put_wkb(points, outlines.ring_sizes, outlines.ring_counts, outlines.areas, ends, out)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]])]
    return pa.Array.from_buffers(pa.binary(), len(cells), buffers)
