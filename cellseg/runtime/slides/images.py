"""Plain images: PNG, JPEG and BMP, whole in memory.

Their formats cannot be read in part, so an image is decoded when it is opened, and its size is read
from its header before that: a file of a few kilobytes can claim gigabytes. (A plain TIFF is read by
:mod:`cellseg.runtime.slides.tiff`, window by window.)
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import SlideError
from cellseg.runtime.slides.channels import RGB_NAMES, pick_channel
from cellseg.runtime.slides.jpeg_check import jpeg_fault
from cellseg.runtime.slides.orientation import ORIENTATION, UPRIGHT, exif_orientation
from cellseg.runtime.slides.slide import OTHER_IMAGES, ArraySlide, rgb_from_samples

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.slides.channels import Channel, Wanted
    from cellseg.runtime.slides.slide import Slide

__all__ = ["open_image"]

_MAX_PX = 300_000_000
_JPEG_MAGIC = b"\xff\xd8"
_JPEG_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA
_DAMAGED_HINT = "The file is damaged: copy or export it again."
_UNDECODED_HINT = _DAMAGED_HINT + " (JPEGs of 12 bits are not read: save them as 16-bit PNG.)"


def open_image(path: Path, mpp: float | None = None, channel: Wanted = None) -> Slide:
    """Open a PNG, JPEG or BMP image.

    Parameters
    ----------
    path : Path
        The file; 8 or 16 bits, grey, RGB, RGBA (composited on white) or palette. An EXIF
        orientation is not applied: pixels stay where they are stored.
    mpp : float, optional
        Microns per pixel; image files state none that can be trusted.
    channel : str or int, optional
        The only colour to read, as grey.

    Returns
    -------
    Slide
        Of kind ``image``, in memory.

    Raises
    ------
    SlideError
        If the image is damaged, or too large to be held whole, or has no such channel.
    """
    data = path.read_bytes()
    name, height, width = _header(path, data)
    _check_size(path, height, width)
    pixels = _decode(path, data)
    chosen: Channel | None = None
    if channel is not None:
        is_grey = pixels.ndim == 2
        chosen = pick_channel(str(path), channel, (None,) if is_grey else RGB_NAMES)
        if not is_grey:
            pixels = np.ascontiguousarray(rgb_from_samples(pixels)[..., chosen.index])
    slide = ArraySlide(pixels, mpp, path=str(path))
    slide.properties = {
        "format": name,
        "compression": name.lower(),
        "samples": str(1 if pixels.ndim == 2 else pixels.shape[2]),
        "bits": str(pixels.dtype.itemsize * 8),
        "tile": "none",
        "mpp from": "none" if mpp is None else "given",
    }
    if chosen is not None:
        slide.channel = chosen
        slide.properties |= chosen.properties()
    if (frames := _frame_count(data)) > 1:
        slide.properties[OTHER_IMAGES] = f"frames 2 to {frames} of its animation"
    if (orientation := exif_orientation(data)) != UPRIGHT:
        slide.properties[ORIENTATION] = str(orientation)
    return slide


def _header(path: Path, data: bytes) -> tuple[str, int, int]:
    """Read format name, height and width from the first bytes."""
    try:
        if data.startswith(b"\x89PNG"):
            width, height = struct.unpack_from(">II", data, 16)
            if height * width <= _MAX_PX:
                data.rindex(b"IEND")  # what OpenCV says of its lack goes past us to stderr
            return "PNG", height, width
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return "BMP", abs(height), abs(width)
        return "JPEG", *_jpeg_size(data)
    except (struct.error, IndexError, ValueError) as error:
        raise SlideError(f"{path}: the image is truncated.", hint=_DAMAGED_HINT) from error


def _frame_count(data: bytes) -> int:
    """Return the frames of an animated PNG, which stand before its pixels; 1 of other images."""
    if not data.startswith(b"\x89PNG"):
        return 1
    found = data.find(b"acTL", 0, data.find(b"IDAT"))
    return 1 if found < 0 else int(struct.unpack_from(">I", data, found + 4)[0])


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Find height and width in a JPEG; require that its data come to an end."""
    height = width = 0
    position = 2
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1
        marker = data[position + 1]
        if marker in _JPEG_NO_LENGTH:
            position += 2
            continue
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, position + 5)
        if marker == _JPEG_SCAN:
            break
        position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
    # Decoders paint what a truncated file lacks in grey and say nothing.
    data.index(b"\xff\xd9", position)
    return height, width


def _check_size(path: Path, height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise SlideError(
            f"{path}: an image must have at least one pixel. Received: size={width}x{height}.",
            hint=_DAMAGED_HINT,
        )
    if height * width > _MAX_PX:
        raise SlideError(
            f"{path}: a plain image is held whole in memory and must have at most "
            f"{_MAX_PX // 10**6} megapixels. Received: size={width}x{height}.",
            hint="Tile it first: vips tiffsave IN OUT.tif --tile --pyramid --bigtiff.",
        )


def _decode(path: Path, data: bytes) -> NDArray[Any]:
    import cv2

    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None:
        raise SlideError(f"{path}: the image is damaged or truncated.", hint=_UNDECODED_HINT)
    if data.startswith(_JPEG_MAGIC) and (fault := jpeg_fault(data)) is not None:
        raise SlideError(f"{path}: the image is damaged: {fault}.", hint=_DAMAGED_HINT)
    pixels = np.asarray(found)
    if pixels.ndim == 3:
        order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[pixels.shape[2]]
        pixels = np.asarray(cv2.cvtColor(pixels, order))
    return pixels
