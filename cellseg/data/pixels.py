"""Reading image and mask files: pixels, whatever wrote them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["is_lossy", "png_palette", "read_image", "read_mask"]

_PNG = b"\x89PNG\r\n\x1a\n"


def read_image(path: Path) -> NDArray[Any]:
    """Read an image, RGB (H, W, 3), in its own depth, as inference reads it.

    Raises
    ------
    SlideError
        If it cannot be read.
    """
    from cellseg.runtime.readers import open_slide

    slide = open_slide(path)
    try:
        level = slide.levels[0]
        return np.asarray(slide.read_region(0, (0, 0), (level.height_px, level.width_px)))
    finally:
        slide.close()


def read_mask(path: Path) -> NDArray[Any]:
    """Read a mask as it is: grey (H, W) or RGB (H, W, 3); equal channels become one, alpha goes.

    Raises
    ------
    DataError
        If it cannot be decoded.
    """
    import cv2

    found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None and path.suffix.lower() in {".tif", ".tiff"}:
        found = _read_tiff(path)
    if found is None:
        raise DataError(f"A mask must be an image that can be decoded. Received: {path}.")
    if found.ndim == 3:
        colour = found[..., :3]
        if (colour == colour[..., :1]).all():
            return np.ascontiguousarray(colour[..., 0])
        return np.ascontiguousarray(colour[..., ::-1])
    return np.asarray(found)


def is_lossy(path: Path) -> bool:
    """Tell a JPEG, whatever its suffix says."""
    with path.open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"


def png_palette(path: Path) -> list[tuple[int, int, int]] | None:
    """Colours of a palette PNG in order of their index; None for other files."""
    data = path.read_bytes()
    if not data.startswith(_PNG) or data[25:26] != b"\x03":
        return None
    place = len(_PNG)
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind == b"PLTE":
            table = data[place + 8 : place + 8 + length]
            return [(table[i], table[i + 1], table[i + 2]) for i in range(0, length - 2, 3)]
        place += 12 + length
    return None


def _read_tiff(path: Path) -> NDArray[Any] | None:
    """32-bit label maps, which OpenCV does not read."""
    import tifffile

    try:
        found = np.asarray(tifffile.imread(path, key=0))
    except (OSError, ValueError, tifffile.TiffFileError):
        return None
    return found[..., ::-1] if found.ndim == 3 else found
