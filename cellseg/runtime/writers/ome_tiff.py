"""Label maps as pyramidal OME-BigTIFF, streamed: any size in a few megabytes of memory.

One pass over the full resolution writes level 0 and, on the way, halves every tile. The halves of
a level wait in an anonymous temporary file until TIFF's order lets the next level be written from
them. Tiles are read and deflated by a few threads and written in order.

The file says nothing about when or by what version it was made: equal labels give equal bytes.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, cast
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from cellseg.runtime.machine.ahead import in_order
from cellseg.runtime.store.labels import halved, windows
from cellseg.runtime.store.packing import pack_briefly, unpack_brief

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.store.labels import LabelSource

    Halve = Callable[[NDArray[Any]], NDArray[Any]]

__all__ = ["LabelImage", "level_count", "write_ome_tiff"]

TILE_PX = 512
_TILES_AT_ONCE = 4
_DEFLATE_LEVEL = 2  # of zlib-ng: a quarter of the time of libdeflate's level 4, a fifth more bytes
_THREADS = 2
_BLOCK_HW = (TILE_PX, _TILES_AT_ONCE * TILE_PX)
_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


@dataclass(frozen=True)
class LabelImage:
    """What a label file says of itself."""

    name: str
    """Name of the image, e.g. ``classes``."""

    mpp: tuple[float, float] | None = None
    """Microns per pixel, (x, y); None where it is not known."""

    class_names: Sequence[str] = field(default=())
    """Name of each class index; kept as an annotation."""

    palette: NDArray[np.uint8] | None = None
    """Colours, uint8 (n, 3); uint8 labels only. None: shades of grey."""


def write_ome_tiff(
    path: Path,
    labels: LabelSource,
    image: LabelImage,
    seen: Callable[[int, int, NDArray[Any]], None] | None = None,
    halve: Halve = halved,
) -> None:
    """Write a label map with its pyramid.

    Parameters
    ----------
    path : Path
        Target; written in place, see `cellseg.runtime.writers.atomic.replacing`.
    labels : LabelSource
        uint8, uint16, uint32 or float32. Each tile is read once, row by row, by several threads.
    image : LabelImage
        Name, pixel size, palette.
    seen : callable, optional
        Called with y0, x0 and labels of every window of the full resolution, once, by several
        threads.
    halve : callable
        From an array to one of half the size: what each level is made by. Another thread calls it.

    Notes
    -----
    Tiles of 512 x 512, deflate, levels as SubIFDs, each half of the one before, until one tile
    holds it all.
    """
    # By name: where the import fails in another thread, Python hands an empty module to this one.
    from tifffile import TiffWriter

    levels = level_count(labels.hw)
    with (
        TiffWriter(path, bigtiff=True, ome=False) as tif,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        source, spool = labels, None
        for level in range(levels):
            halves = _Spool(path, source.hw, labels.dtype) if level + 1 < levels else None
            tiles = _encoded(source, halves, halve, pool, seen if level == 0 else None)
            tif.write(tiles, **_tags(source, image, level, levels))
            if spool is not None:
                spool.close()
            if halves is not None:
                source = spool = halves


def level_count(hw: tuple[int, int]) -> int:
    """Return how many levels the pyramid has: the last one fits into a tile."""
    levels, side = 1, max(hw)
    while side > TILE_PX:
        levels, side = levels + 1, -(-side // 2)
    return levels


class _Spool:
    """The next level of a pyramid, in an anonymous file: a half-size block for each one above.

    It is filled block by block and then read like any label source.
    """

    def __init__(self, path: Path, finer_hw: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.hw = (-(-finer_hw[0] // 2), -(-finer_hw[1] // 2))
        self.dtype = dtype
        self._columns = -(-finer_hw[1] // _BLOCK_HW[1])
        count = -(-finer_hw[0] // _BLOCK_HW[0]) * self._columns
        self._offsets = np.zeros(count, np.int64)
        self._sizes = np.zeros(count, np.int64)
        self._end = 0
        self._turn = Lock()
        self._file = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed by `close`

    def add(self, index: int, half: bytes | None) -> None:
        """Keep the packed half of a block; None: it is all 0."""
        if half is not None:
            self._file.seek(self._end)
            self._file.write(half)
            self._offsets[index], self._sizes[index] = self._end, len(half)
            self._end += len(half)

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
        """Return a block, put together from four halves; y0 and x0 are multiples of the block."""
        window = np.zeros((h, w), self.dtype)
        half_hw = (_BLOCK_HW[0] // 2, _BLOCK_HW[1] // 2)
        for y, x, part_h, part_w in windows((h, w), half_hw):
            index = (y0 + y) // half_hw[0] * self._columns + (x0 + x) // half_hw[1]
            if self._sizes[index]:
                with self._turn:
                    self._file.seek(self._offsets[index])
                    packed = self._file.read(self._sizes[index])
                window[y : y + part_h, x : x + part_w] = unpack_brief(
                    packed, (part_h, part_w), self.dtype
                )
        return window

    def close(self) -> None:
        self._file.close()


def _encoded(
    source: LabelSource,
    halves: _Spool | None,
    halve: Halve,
    pool: ThreadPoolExecutor,
    seen: Callable[[int, int, NDArray[Any]], None] | None,
) -> Iterator[bytes]:
    """Yield the deflated tiles of a level in order, and keep their halves."""
    blank = _deflate(np.zeros((TILE_PX, TILE_PX), source.dtype))

    def work(window: tuple[int, int, int, int]) -> tuple[list[bytes], bytes | None]:
        labels = source.read(*window)
        if seen is not None:
            seen(window[0], window[1], labels)
        tiles = [_encode(labels[:, x : x + TILE_PX], blank) for x in range(0, window[3], TILE_PX)]
        if halves is None or all(tile is blank for tile in tiles):
            return tiles, None
        return tiles, pack_briefly(halve(labels))

    found = in_order(pool, work, windows(source.hw, _BLOCK_HW), 2 * _THREADS)
    for index, (encoded, half) in enumerate(found):
        if halves is not None:
            halves.add(index, half)
        yield from encoded


def _encode(labels: NDArray[Any], blank: bytes) -> bytes:
    """Deflate a tile, filled up with 0 at the border of the image."""
    if not labels.any():
        return blank
    if labels.shape == (TILE_PX, TILE_PX):
        return _deflate(labels)
    whole = np.zeros((TILE_PX, TILE_PX), labels.dtype)
    whole[: labels.shape[0], : labels.shape[1]] = labels
    return _deflate(whole)


def _deflate(tile: NDArray[Any]) -> bytes:
    import imagecodecs

    values = cast("bytes", np.ascontiguousarray(tile).data)  # any buffer will do
    return bytes(imagecodecs.zlibng_encode(values, level=_DEFLATE_LEVEL))


def _tags(source: LabelSource, image: LabelImage, level: int, levels: int) -> dict[str, Any]:
    """Arguments of TiffWriter.write for one level."""
    tags: dict[str, Any] = {
        "shape": source.hw,
        "dtype": source.dtype,
        "tile": (TILE_PX, TILE_PX),
        "compression": "zlib",
        "photometric": "minisblack",
        "metadata": None,
        "software": False,
    }
    if image.palette is not None:
        colours = np.zeros((3, 256), np.uint16)
        colours[:, : len(image.palette)] = image.palette.T.astype(np.uint16) * 257
        tags |= {"photometric": "palette", "colormap": colours}
    if image.mpp is not None:
        per_cm = (1e4 / 2**level / image.mpp[0], 1e4 / 2**level / image.mpp[1])
        tags |= {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
    if level == 0:
        text = _ome_xml(source, image)
        return tags | {"description": text, "subifds": levels - 1}
    return tags | {"subfiletype": 1}


def _ome_xml(source: LabelSource, image: LabelImage) -> bytes:
    height, width = source.hw
    pixels = {
        "ID": "Pixels:0",
        "DimensionOrder": "XYCZT",
        "Type": "float" if source.dtype == np.float32 else source.dtype.name,
        "BigEndian": "false",
        "SizeX": width,
        "SizeY": height,
        "SizeC": 1,
        "SizeZ": 1,
        "SizeT": 1,
    }
    if image.mpp is not None:  # microns are OME's default unit
        pixels |= {"PhysicalSizeX": f"{image.mpp[0]:.9g}", "PhysicalSizeY": f"{image.mpp[1]:.9g}"}
    names = "".join(
        f'<M K="{index}">{escape(name)}</M>' for index, name in enumerate(image.class_names)
    )
    annotation = (
        '<StructuredAnnotations><MapAnnotation ID="Annotation:0" Namespace="cellseg/classes">'
        f"<Value>{names}</Value></MapAnnotation></StructuredAnnotations>"
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{_NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_NAMESPACE} {_NAMESPACE}/ome.xsd" Creator="cellseg">'
        f'<Image ID="Image:0" Name={quoteattr(image.name)}><Pixels {_attributes(pixels)}>'
        f'<Channel ID="Channel:0:0" Name={quoteattr(image.name)} SamplesPerPixel="1"/>'
        '<TiffData IFD="0" PlaneCount="1"/></Pixels>'
        f"{'<AnnotationRef ID=' + quoteattr('Annotation:0') + '/>' if names else ''}</Image>"
        f"{annotation if names else ''}</OME>"
    )
    return text.encode()


def _attributes(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={quoteattr(str(value))}" for name, value in values.items())
