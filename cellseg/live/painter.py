"""Results as pictures: small enough to be sent often, painted only for who looks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from cellseg.errors import CellsegError
from cellseg.runtime.slides.slide import rgb_from_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.live.result import FrameResult

__all__ = [
    "FILL",
    "LAYERS",
    "Layer",
    "as_rgb8",
    "encode_jpeg",
    "encode_png",
    "paint_result",
    "parse_layer",
    "value_range",
    "warm_up",
]

Layer = Literal["overlay", "frame", "classes", "scan"]
LAYERS: tuple[str, ...] = get_args(Layer)
FILL = 40
"""Weight of a class's colour inside a cell, of 256."""

_OUTLINE = 256
_QUALITY = 82


def parse_layer(name: str) -> Layer:
    """Check the name of a layer.

    Raises
    ------
    CellsegError
        If there is none of that name.
    """
    if name not in LAYERS:
        raise CellsegError(f"A layer is one of {', '.join(LAYERS)}. Received: layer={name}.")
    return cast("Layer", name)


def paint_result(
    result: FrameResult,
    palette: tuple[tuple[int, int, int], ...],
    layer: Layer,
    max_side_px: int | None = None,
) -> NDArray[np.uint8]:
    """Paint a result.

    Parameters
    ----------
    result : FrameResult
        Frame and classes.
    palette : tuple of (red, green, blue)
        Colour of each class.
    layer : {"overlay", "frame", "classes"}
        The frame with cells outlined, the bare frame, or classes in their colours. (``scan`` is no
        picture of one result: `cellseg.live.mosaic.preview` paints it.)
    max_side_px : int, optional
        Reduce by a whole number until the longer side is no longer than this.

    Returns
    -------
    uint8, shape (h, w, 3)
        RGB.
    """
    from cellseg.runtime.kernels.palette import paint

    step = math.ceil(max(result.classes.shape) / max_side_px) if max_side_px else 1
    colours = np.array(palette, np.uint8)
    classes = np.ascontiguousarray(result.classes[::step, ::step])
    if layer == "classes":
        return np.asarray(colours[classes], np.uint8)
    rgb = _reduced(as_rgb8(result.frame.array), classes.shape)
    if layer == "overlay":
        found = result.classes if result.labels is None else result.labels
        objects = np.ascontiguousarray(found[::step, ::step])
        paint(rgb, classes, objects, colours, FILL, _OUTLINE, 1)
    return rgb


def warm_up() -> None:
    """Compile what paints, so that the first picture does not wait for it."""
    from cellseg.runtime.kernels.palette import paint

    for dtype in (np.uint8, np.uint32):
        pixel, rgb = np.zeros((1, 1), dtype), np.zeros((1, 1, 3), np.uint8)
        paint(rgb, pixel.astype(np.uint8), pixel, rgb[0], FILL, _OUTLINE, 1)


def value_range(image: NDArray[Any]) -> tuple[int, int]:
    """Return the values of a camera's frame, of any shape, that are shown black and white."""
    if image.dtype == np.uint8:
        return 0, 255
    return int(image.min()), int(image.max())


def as_rgb8(image: NDArray[Any], shown: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Return a camera's frame as 8-bit RGB.

    Parameters
    ----------
    image : array, shape (H, W) or (H, W, channels)
        As a camera gives it; what has 8 bits is left as it is.
    shown : (int, int), optional
        Values that become 0 and 255; by default the frame's own smallest and largest.
    """
    rgb = rgb_from_samples(np.asarray(image))
    if rgb.dtype == np.uint8:
        return rgb
    low, high = value_range(rgb) if shown is None else shown
    scaled = (rgb.astype(np.float32) - low) * (255 / max(high - low, 1))
    return scaled.clip(0, 255).astype(np.uint8)


def encode_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """Encode a picture (H, W, 3) for the page."""
    import cv2

    return _encoded(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])


def encode_png(pixels: NDArray[Any]) -> bytes:
    """Encode RGB (H, W, 3), or a map (H, W) of uint8 or uint16, without loss."""
    return _encoded(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels, [])


def _encoded(suffix: str, pixels: NDArray[Any], settings: list[int]) -> bytes:
    import cv2

    is_encoded, data = cv2.imencode(suffix, pixels, settings)
    if not is_encoded:
        raise CellsegError(f"A picture could not be encoded. Received: shape={pixels.shape}.")
    return data.tobytes()


def _reduced(rgb: NDArray[np.uint8], hw: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return a copy of a picture in another size; means, so that fine grain does not flicker."""
    import cv2

    if rgb.shape[:2] == hw:
        return np.array(rgb, order="C")
    return np.asarray(cv2.resize(rgb, hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)
