"""A mosaic as a file: a tiled, pyramidal OME-TIFF that every viewer and our own reader open."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.errors import StoreError
from cellseg.live.mosaic.kept import KEPT_FOLDER
from cellseg.runtime.machine.facts import this_machine
from cellseg.runtime.writers.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.live.mosaic.slide import MosaicSlide

__all__ = ["write_mosaic"]

_TILE_PX = 512
_STEP = 4  # from one level to the next
_SMALLEST_PX = 512
_MEMORY_SHARE = 0.5


def write_mosaic(path: Path, mosaic: MosaicSlide) -> None:
    """Write a mosaic, lossless.

    Parameters
    ----------
    path : Path
        Ends in ``.ome.tif``; appears when it is whole.
    mosaic : MosaicSlide
        Read tile by tile; of the file's lower levels a sixteenth of it is held.

    Raises
    ------
    StoreError
        If the disk is full or cannot be written, or the mosaic is too large for the memory.
    """
    import tifffile

    base = mosaic.levels[0]
    hw = base.height_px, base.width_px
    _check_memory(path, mosaic, hw)
    levels = _level_count(hw)
    reduced = np.zeros((*_reduced(hw), 3), mosaic.dtype)
    mpp = mosaic.mpp or ()
    size = dict(zip(("PhysicalSizeX", "PhysicalSizeY"), mpp, strict=False))
    shared: dict[str, Any] = {
        "tile": (_TILE_PX, _TILE_PX),
        "photometric": "rgb",
        "compression": "zlib",
        "compressionargs": {"level": 1},
    }
    with replacing(path) as target, tifffile.TiffWriter(target, bigtiff=True, ome=True) as file:
        file.write(
            _tiles(mosaic, hw, reduced),
            shape=(*hw, 3),
            dtype=mosaic.dtype,
            subifds=levels - 1,
            metadata={"axes": "YXS", **size},
            **shared,
        )
        for _ in range(levels - 1):
            file.write(reduced, subfiletype=1, metadata=None, **shared)
            reduced = _shrunk(reduced, _reduced(reduced.shape[:2]))


def _check_memory(path: Path, mosaic: MosaicSlide, hw: tuple[int, int]) -> None:
    """Refuse a mosaic that is too large: one wrong position of the stage makes it so."""
    memory_mb = this_machine().memory_mb
    needed_bytes = math.prod(_reduced(hw)) * 3 * mosaic.dtype.itemsize
    if memory_mb is None or needed_bytes <= _MEMORY_SHARE * memory_mb * 2**20:
        return
    corners = np.array([frame.yx for frame in mosaic.frames])
    distances = np.abs(corners - np.median(corners, axis=0)).max(axis=1)
    farthest = mosaic.frames[int(distances.argmax())].frame_id
    raise StoreError(
        "The lower levels of a mosaic must fit in half of the memory. Received: "
        f"{hw[1]}x{hw[0]} px of {len(mosaic.frames)} frames; the farthest one is frame {farthest}.",
        hint="Is its stage position wrong? All frames are kept: take its line out of "
        f"{path.with_name(KEPT_FOLDER) / 'frames.jsonl'}, then `cellseg-cli live "
        f"recording:{path.parent} -o OTHER_FOLDER` makes the mosaic.",
    )


def _tiles(
    mosaic: MosaicSlide, hw: tuple[int, int], reduced: NDArray[Any]
) -> Iterator[NDArray[Any]]:
    """Yield the tiles of level 0 in order; fill level 1 meanwhile."""
    small = _TILE_PX // _STEP
    for y in range(0, hw[0], _TILE_PX):
        for x in range(0, hw[1], _TILE_PX):
            h, w = min(_TILE_PX, hw[0] - y), min(_TILE_PX, hw[1] - x)
            pixels = mosaic.read_region(0, (y, x), (h, w))
            place = reduced[y // _STEP : y // _STEP + small, x // _STEP : x // _STEP + small]
            place[:] = _shrunk(pixels, place.shape[:2])
            tile = np.zeros((_TILE_PX, _TILE_PX, 3), mosaic.dtype)
            tile[:h, :w] = pixels
            yield tile


def _shrunk(pixels: NDArray[Any], hw: tuple[int, ...]) -> NDArray[Any]:
    shrunk = cv2.resize(pixels, (hw[1], hw[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, pixels.dtype)


def _reduced(hw: tuple[int, ...]) -> tuple[int, int]:
    return max(1, -(-hw[0] // _STEP)), max(1, -(-hw[1] // _STEP))


def _level_count(hw: tuple[int, int]) -> int:
    count, side = 1, max(hw)
    while side > _SMALLEST_PX:
        count, side = count + 1, -(-side // _STEP)
    return count
