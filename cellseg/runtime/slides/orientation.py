"""Orientation: how a photo asks to be turned, which no result heeds.

Cameras store pixels as the sensor gave them and leave a tag, 1 to 8, that says how to turn or
mirror them. Photo viewers do so; QuPath, Fiji, NumPy readers and this project do not: a pixel is
where it is stored, in every mask, table and picture. Where that differs from what a viewer shows,
it is said.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from cellseg.runtime.slides.slide import Slide

__all__ = [
    "ORIENTATION",
    "TURNED",
    "UPRIGHT",
    "as_stored",
    "exif_orientation",
    "orientation_doubt",
]

ORIENTATION = "orientation"
"""Key of a slide's ``properties``: the tag, as text, where it is one of ``TURNED``."""

UPRIGHT = 1
_ORIENTATION_TAG = 274
TURNED = {
    2: "mirrored left to right", 3: "turned by 180 degrees", 4: "mirrored top to bottom",
    5: "mirrored along the diagonal", 6: "turned clockwise by 90 degrees",
    7: "mirrored along the other diagonal", 8: "turned anticlockwise by 90 degrees",
}  # fmt: skip
"""What viewers do, by tag."""

_JPEG_HEAD_BYTES = 1 << 17  # EXIF is the first segment, and one has at most 64 kB


def as_stored(decoded: NDArray[Any], path: Path) -> NDArray[Any]:
    """Turn an image back that OpenCV decoded: a TIFF it turns by its orientation, unasked.

    Parameters
    ----------
    decoded : array, shape (H, W) or (H, W, C)
        From OpenCV.
    path : Path
        The file; only a TIFF is looked into.

    Returns
    -------
    array
        Pixels where the file has them; a view.
    """
    if path.suffix.lower() not in {".tif", ".tiff"}:
        return decoded
    tag = _tiff_orientation(path)
    if tag in (5, 7):
        decoded = np.swapaxes(decoded, 0, 1)
    if tag in (6, 8):
        return np.rot90(decoded, 1 if tag == 6 else -1)
    if tag in (2, 3, 7):
        decoded = decoded[:, ::-1]
    return decoded[::-1] if tag in (3, 4, 7) else decoded


def exif_orientation(data: bytes) -> int:
    """Find the orientation in a JPEG or PNG file.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    int
        1 to 8; 1, upright, where nothing that can be understood is said.

    Examples
    --------
    >>> exif_orientation(b"no image")
    1
    """
    if data.startswith(b"\x89PNG"):
        place, marker = data.find(b"eXIf"), b"eXIf"
    else:
        place, marker = data.find(b"Exif\0\0", 0, _JPEG_HEAD_BYTES), b"Exif\0\0"
    if place < 0:
        return UPRIGHT
    try:
        found = _orientation_in(data[place + len(marker) : place + len(marker) + 65536])
    except struct.error:
        return UPRIGHT
    return found if found in TURNED else UPRIGHT


def orientation_doubt(slide: Slide) -> str | None:
    """Say how a slide's pixels lie beside what photo viewers show; None where they agree."""
    tag = slide.properties.get(ORIENTATION)
    if tag is None:
        return None
    return (
        f"{slide.path}: viewers show this file {TURNED[int(tag)]} (orientation tag {tag}), but its "
        "pixels are taken as they are stored, and every result lies like them. To have results as "
        "the viewer shows it, turn the pixels first: magick IN -auto-orient OUT."
    )


def _tiff_orientation(path: Path) -> int:
    """Read the orientation of a TIFF's first page; 1, upright, where it has none."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            tag = tif.pages.first.tags.get(_ORIENTATION_TAG)
    except (OSError, ValueError, tifffile.TiffFileError):
        return UPRIGHT
    return int(tag.value) if tag is not None and tag.value in TURNED else UPRIGHT


def _orientation_in(tiff: bytes) -> int:
    """Read the tag from the first directory of a TIFF header, which is what EXIF is."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return UPRIGHT
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from(order + "H", tiff, entry) == (_ORIENTATION_TAG,):
            return int(struct.unpack_from(order + "H", tiff, entry + 8)[0])
    return UPRIGHT
