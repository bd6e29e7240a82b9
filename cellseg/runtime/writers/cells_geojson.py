"""Cells as GeoJSON that QuPath opens: one detection a cell, in level-0 pixels, gzipped.

QuPath's rules [1]_: a FeatureCollection; each Feature has a UUID as its id, a closed Polygon or
MultiPolygon, and properties ``objectType``, ``classification`` (name and colour) and
``measurements`` (name: value). The UUID is made from the run and the cell's number (version 5), so
that the same run gives the same bytes. Text is put together in bytes by a kernel and compressed in
threads as one gzip member, which every reader takes; no more than a few lots of cells are in
memory.

References
----------
.. [1] https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html
"""

from __future__ import annotations

import hashlib
import json
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.cells.table import COLUMNS, CellFrame, cell_columns
from cellseg.runtime.machine.ahead import in_order
from cellseg.runtime.machine.facts import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.cells.measured import MeasuredCells
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["cell_uuids", "uuid_namespace", "write_cells_geojson"]

_HEAD = b'{"type":"FeatureCollection","features":['
_TAIL = b"\n]}\n"
_BEFORE_ID = b',\n{"type":"Feature","id":"'
_GEOMETRY = b'","geometry":{"type":"%s","coordinates":['
_PROPERTIES = b']},"properties":{"objectType":"detection"'
_LOT_CELLS = 4096
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, no name, no time
_LAST_BLOCK = b"\x03\x00"
_COMPRESSION = 1  # level 3 takes half as long again for files that are 8 % smaller
# What decides where tiles lie does not decide what a cell is.
_NOT_OF_CELLS = ("tile_px", "tile_hw", "halo_px", "stride_px")


def write_cells_geojson(path: Path, run: FinishedRun) -> None:
    """Write all cells of a run."""
    features = _Features(run.job)
    with path.open("wb") as file:
        for block in _gzipped(features.texts(run.measured.batches())):
            file.write(block)


def uuid_namespace(job: Job) -> uuid.UUID:
    """Return the namespace of a run's cells: the same for the same slide, model and settings."""
    identity = {key: value for key, value in job.identity.items() if key not in _NOT_OF_CELLS}
    return uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(identity, sort_keys=True))


def cell_uuids(namespace: uuid.UUID, first_id: int, count: int) -> NDArray[np.uint8]:
    """Return ``uuid5(namespace, str(id))`` of consecutive cells as text, uint8 (n, 36).

    Examples
    --------
    >>> space = uuid.uuid5(uuid.NAMESPACE_OID, "a run")
    >>> bytes(cell_uuids(space, 7, 1)[0]).decode() == str(uuid.uuid5(space, "7"))
    True
    """
    start = hashlib.sha1(namespace.bytes, usedforsecurity=False)
    digests = bytearray()
    for number in range(first_id, first_id + count):
        found = start.copy()
        found.update(str(number).encode())
        digests += found.digest()[:16]
    raw = np.frombuffer(digests, np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x50  # version 5
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    nibbles = np.stack([raw >> 4, raw & 15], axis=2).reshape(count, 32)
    text = np.full((count, 36), ord("-"), np.uint8)
    places = [i for i in range(36) if i not in (8, 13, 18, 23)]
    text[:, places] = np.frombuffer(b"0123456789abcdef", np.uint8)[nibbles]
    return text


class _Features:
    """Turns measured cells into text."""

    def __init__(self, job: Job) -> None:
        self._frame, self._namespace = CellFrame.of(job), uuid_namespace(job)
        self._columns = [c for c in COLUMNS if c.dtype not in ("U", "?")]
        self._decimals = np.array([column.decimals for column in self._columns], np.int64)
        pieces = [
            _BEFORE_ID,
            _GEOMETRY % b"Polygon",
            _GEOMETRY % b"MultiPolygon",
            _PROPERTIES,
            b"}}}",
            *(f'"{column.name}":'.encode() for column in self._columns),
            *(_class_text(item.name, item.color) for item in job.bundle.manifest.classes),
        ]
        self._texts = np.frombuffer(b"".join(pieces), np.uint8)
        self._ends = np.cumsum([len(piece) for piece in pieces])
        self._cell_bytes = max(map(len, pieces[1:3])) + len(self._texts)

    def texts(self, batches: Iterable[MeasuredCells]) -> Iterator[bytes]:
        """Yield the whole file, piece by piece."""
        yield _HEAD
        done = 0
        for batch in batches:
            for start in range(0, len(batch), _LOT_CELLS):
                lot = batch.part(start, start + _LOT_CELLS)
                text = self._text(lot, done + 1)
                yield text if done else text[1:]  # no comma before the first
                done += len(lot)
        yield _TAIL

    def _text(self, cells: MeasuredCells, first_id: int) -> bytes:
        from cellseg.runtime.kernels.text import NUMBER_BYTES, put_features

        columns = cell_columns(cells, self._frame, first_id)
        values = np.stack([columns[c.name].astype(np.float64) for c in self._columns], axis=1)
        outlines = cells.outlines
        points = self._frame.outline_points(cells)
        numbers = values.size + 2 * (len(points) + len(outlines.ring_sizes))
        room = numbers * (NUMBER_BYTES + 3) + len(cells) * (self._cell_bytes + 64)
        out = np.empty(room, np.uint8)
        size = put_features(
            cell_uuids(self._namespace, first_id, len(cells)),
            columns["class"],
            values,
            self._decimals,
            self._texts,
            self._ends,
            points,
            outlines.ring_sizes,
            outlines.ring_counts,
            outlines.areas,
            out,
        )
        return out[:size].tobytes()


def _class_text(name: str, color: Any) -> bytes:
    found = {"name": name, "color": [int(value) for value in color]}
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    return f',"classification":{text},"measurements":{{'.encode()


def _gzipped(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Compress pieces of text in threads; yield one gzip member, in order."""
    yield _GZIP_HEAD
    checksum, size = 0, 0
    threads = min(4, usable_cores())

    def summed() -> Iterator[bytes]:
        nonlocal checksum, size
        for text in texts:
            checksum, size = zlib.crc32(text, checksum), size + len(text)
            yield text

    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, _deflated, summed(), threads)
    yield _LAST_BLOCK + checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def _deflated(text: bytes) -> bytes:
    """Compress a piece so that another may follow."""
    deflate = zlib.compressobj(_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(text) + deflate.flush(zlib.Z_FULL_FLUSH)
