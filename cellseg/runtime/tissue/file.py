"""A tissue mask that somebody made: an image of any resolution, nonzero where tissue is.

Of a palette without black, and without transparency, the numbers count, as of labels: ground is 0,
whatever it looks like. Where white is stored as 0, what is shown counts.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import RegionError
from cellseg.runtime.tissue.mask import TissueMask

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from cellseg.runtime.slides.slide import Slide

__all__ = ["MAX_MASK_PX", "read_tissue_mask"]

MAX_MASK_PX = 1 << 26
"""A mask may have so many pixels; of a pyramid, the largest level that fits is read."""

_ASPECT_TOLERANCE = 0.01
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEGS, _PLANES, _WHITE_IS_ZERO = (6, 7), 2, 0  # tags of TIFF
_HINT = "A tissue mask is a PNG or TIFF of the whole slide, at any size, nonzero where tissue is."


def read_tissue_mask(
    path: str | os.PathLike[str], slide: Slide, wl_hw: tuple[int, int]
) -> TissueMask:
    """Read a mask and lay it over a slide's working level.

    Parameters
    ----------
    path : path
        PNG, TIFF or another image; bool, grey, RGB, palette or with alpha (transparent is no
        tissue). Of a JPEG, tissue is what is brighter than half of the brightest.
    slide : Slide
        Its aspect ratio must be that of the mask to 1 %, or to a pixel of the mask.
    wl_hw : (int, int)
        Height and width of the working level.

    Raises
    ------
    RegionError
        If the file is no image, is too large, or shows something of another shape.
    """
    mask = _nonzero(_pixels(Path(path)))
    _check_aspect(path, mask, slide)
    wl_per_mask = (wl_hw[0] / mask.shape[0], wl_hw[1] / mask.shape[1])
    return TissueMask(mask, wl_per_mask, "given")


def _pixels(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            head = file.read(24)
        pixels = _tiff_pixels(path) if head.startswith(_TIFF_MAGIC) else _image(path, head)
    except (RegionError, ImportError):
        raise
    except Exception as error:  # decoders share no base
        text = f"{path}: the tissue mask cannot be read: {error}."
        raise RegionError(text, hint=_HINT) from error
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] > 4) or not pixels.size:
        raise RegionError(
            f"{path}: a tissue mask must be one image. Received: shape={pixels.shape}.", hint=_HINT
        )
    return pixels


def _tiff_pixels(path: Path) -> NDArray[Any]:
    """Read the largest level that is small enough."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        levels = tif.series[0].levels
        for level in levels:
            page: Any = level.keyframe
            if page.imagelength * page.imagewidth <= MAX_MASK_PX:
                return _shown(page)
        raise _too_large(path, levels[-1].keyframe.imagewidth, levels[-1].keyframe.imagelength)


def _shown(page: Any) -> NDArray[Any]:
    """Decode a page as (H, W) or (H, W, samples), its ground 0."""
    pixels = np.asarray(page.asarray())
    if page.planarconfig == _PLANES and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    # One bit stays as it is: tifffile gives what writers of bool mean by it.
    if page.photometric == _WHITE_IS_ZERO and page.bitspersample > 1 and pixels.dtype.kind == "u":
        pixels = (1 << page.bitspersample) - 1 - pixels
    return _without_ringing(pixels) if page.compression in _JPEGS else pixels


def _without_ringing(pixels: NDArray[Any]) -> NDArray[Any]:
    """Clear what a lossy codec leaves on the ground: all below half of the brightest."""
    return np.where(pixels > pixels.max(initial=0) / 2, pixels, 0)


def _image(path: Path, head: bytes) -> NDArray[Any]:
    import cv2

    from cellseg.runtime.slides.png_palette import palette_numbers

    if head.startswith(b"\x89PNG"):
        width, height = struct.unpack_from(">II", head, 16)
        if width * height > MAX_MASK_PX:
            raise _too_large(path, width, height)
    data = path.read_bytes()
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is not None and _nonzero(np.asarray(found)).all():  # no colour of a palette is ground
        numbers = palette_numbers(data)
        found = found if numbers is None else numbers
    if found is None:
        raise RegionError(f"{path}: the tissue mask is no image that can be read.", hint=_HINT)
    return _without_ringing(found) if head.startswith(_JPEG_MAGIC) else np.asarray(found)


def _too_large(path: Path, width: int, height: int) -> RegionError:
    return RegionError(
        f"{path}: a tissue mask must have at most {MAX_MASK_PX} pixels. "
        f"Received: {width} x {height} px.",
        hint="Reduce it: a pixel of a few microns is enough.",
    )


def _nonzero(pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where any colour is a number other than 0, and not transparent; contiguous."""
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels)
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels != 0)
    colours = pixels.shape[2] - (pixels.shape[2] in (2, 4))
    found = (pixels[..., :colours] != 0).any(axis=2)
    return np.asarray(found if colours == pixels.shape[2] else found & (pixels[..., -1] != 0))


def _check_aspect(path: str | os.PathLike[str], mask: NDArray[np.bool_], slide: Slide) -> None:
    (height, width), base = mask.shape, slide.levels[0]
    off_px = abs(height * base.width_px / base.height_px - width)
    wide_px = abs(width * base.height_px / base.width_px - height)
    if min(off_px, wide_px) <= 1 or off_px <= _ASPECT_TOLERANCE * width:
        return
    raise RegionError(
        f"{path}: a tissue mask must have the shape of the slide, {base.width_px} x "
        f"{base.height_px} px, to {_ASPECT_TOLERANCE:.0%}. Received: {width} x {height} px.",
        hint="It must show the whole slide, neither cropped nor turned.",
    )
