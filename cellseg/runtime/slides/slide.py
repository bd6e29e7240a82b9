"""A slide: levels of one image, read window by window.

Coordinates. A window is an origin and a size in pixels of the level it is read from, as arrays are
indexed: ``(y, x)`` and ``(height, width)``. ``downsample`` leads from there to level 0. Readers
whose library wants other frames convert inside and nowhere else.

Every reader gives RGB in the file's own depth (uint8 or uint16): grey becomes three equal channels,
and an alpha channel is composited on white, pixel by pixel: no result depends on the window.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from cellseg.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.slides.channels import Channel

__all__ = [
    "DISBELIEVED",
    "OTHER_IMAGES",
    "ArraySlide",
    "Level",
    "Slide",
    "check_mpp",
    "check_window",
    "is_evenly_reduced",
    "level_downsample",
    "paste",
    "rgb_from_samples",
]

_LEAST_MPP, _MOST_MPP = 1e-4, 1e6  # what lies beyond is a mistake, and takes minutes to resample

AlphaKind = Literal["straight", "premultiplied", "ignore"]

OTHER_IMAGES = "not read"
"""Key of a slide's ``properties``: pictures of a like size in the same file, which are not read."""

DISBELIEVED = "not believed"
"""Key of a slide's ``properties``: a pixel size that the file states and that cannot be true."""

_DIGEST_BYTES = 1 << 20
_STRIP_PX = 1 << 15


@dataclass(frozen=True)
class Level:
    """One level of a pyramid."""

    width_px: int
    """Width in pixels of this level."""

    height_px: int
    """Height in pixels of this level."""

    downsample: float
    """Level-0 pixels per pixel of this level; 1.0 at level 0."""


class Slide(Protocol):
    """An image of any size that gives windows of itself."""

    @property
    def path(self) -> str:
        """Where it was opened, for messages and records."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """Pyramid, level 0 (full resolution) first."""
        ...

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Microns per level-0 pixel, (x, y); None where the file does not say."""
        ...

    @property
    def kind(self) -> Literal["slide", "image"]:
        """``image``: without mpp it is taken to be at the model's; ``slide``: mpp is needed."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of what ``read_region`` returns: uint8 or uint16."""
        ...

    @property
    def properties(self) -> dict[str, str]:
        """Facts for people: format, compression, vendor, tile size."""
        ...

    def read_region(self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[Any]:
        """Read a window of one level; may be called from several threads at once.

        Parameters
        ----------
        level : int
            Index into ``levels``.
        l_yx : (int, int)
            Top-left corner in pixels of that level.
        hw : (int, int)
            Height and width in pixels of that level; the window lies inside the level.

        Returns
        -------
        uint8 or uint16, shape (h, w, 3)
            RGB; not to be written into.

        Raises
        ------
        SlideError
            If the window reaches outside the level, or the file is damaged there.
        """
        ...

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        ...


class ArraySlide:
    """An array in memory, or a memory map, as a slide of one level.

    Parameters
    ----------
    array : uint8, uint16 or bool, shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)
        Grey, RGB or RGBA (composited on white), or what NumPy makes an array of, such as a Pillow
        image. It is not copied (but for big-endian numbers, or by ``copy``): bool becomes 0 and
        255, grey becomes three channels window by window.
    mpp : float or (float, float), optional
        Microns per pixel, or (x, y) microns per pixel.
    path : str, optional
        Name for messages.
    copy : bool
        Keep pixels of its own, whatever becomes of the array.

    Raises
    ------
    SlideError
        If shape or dtype is another one, or a side is 0.

    Examples
    --------
    >>> slide = ArraySlide(np.full((2, 3), 7, np.uint8), mpp=0.5)
    >>> slide.read_region(0, (0, 1), (1, 2)).tolist()
    [[[7, 7, 7], [7, 7, 7]]]
    """

    kind: Literal["slide", "image"] = "image"
    channel: Channel | None = None
    """The one of the file's that the array holds, if it was chosen."""

    def __init__(
        self,
        array: NDArray[Any],
        mpp: float | tuple[float, float] | None = None,
        *,
        path: str = "<array>",
        copy: bool = False,
    ) -> None:
        array = _checked_array(array)
        self._array = array.copy() if copy else array
        self.path = path
        self.mpp = _mpp_pair(mpp)
        self.levels = (Level(array.shape[1], array.shape[0], 1.0),)
        self.dtype = np.dtype(np.uint8) if array.dtype == bool else array.dtype
        self.properties = {"format": "array", "dtype": str(array.dtype)}

    def read_region(self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[Any]:
        """Read a window; see :meth:`Slide.read_region`."""
        check_window(self, level, l_yx, hw)
        (y0, x0), (h, w) = l_yx, hw
        return rgb_from_samples(self._array[y0 : y0 + h, x0 : x0 + w])

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that its pixels take; a memory map's are the system's to give back."""
        owner: Any = self._array
        while isinstance(owner, np.ndarray):
            if isinstance(owner, np.memmap):
                return 0
            owner = owner.base
        return self._array.nbytes

    def digest(self) -> str:
        """Return the sha256 of shape, dtype and pixels."""
        head = f"{self._array.shape} {self._array.dtype}".encode()
        found = hashlib.sha256(head)
        rows = max(1, _DIGEST_BYTES // max(1, self._array[0].nbytes))
        for y0 in range(0, self._array.shape[0], rows):
            found.update(np.ascontiguousarray(self._array[y0 : y0 + rows]).data)
        return found.hexdigest()

    def close(self) -> None:
        """Do nothing: the array belongs to the caller."""


def check_window(slide: Slide, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> None:
    """Raise a SlideError unless a window lies inside a level of the slide."""
    if not 0 <= level < len(slide.levels):
        raise SlideError(
            f"Level must be one of 0..{len(slide.levels) - 1}. Received: level={level}."
        )
    extent = slide.levels[level]
    (y0, x0), (h, w) = l_yx, hw
    inside_y = 0 <= y0 and 0 < h and y0 + h <= extent.height_px
    inside_x = 0 <= x0 and 0 < w and x0 + w <= extent.width_px
    if not (inside_y and inside_x):
        raise SlideError(
            f"A window must lie inside its level of {extent.height_px} x {extent.width_px} (h, w). "
            f"Received: level={level}, l_yx={l_yx}, hw={hw}."
        )


def level_downsample(full_hw: tuple[int, int], part_hw: tuple[int, int]) -> float:
    """Return the level-0 pixels a level pixel.

    Rounding to whole pixels hides the true ratio of a small level: 97 pixels of 100000 are 1024
    times fewer, not 1030.9. So the nearest power of 2 is taken where it explains both sides to
    within a pixel, else the nearest whole number, else the mean of the two ratios.

    Examples
    --------
    >>> level_downsample((100_000, 50_000), (97, 48)), level_downsample((900, 1000), (300, 333))
    (1024.0, 3.0)
    """
    sides = tuple(zip(full_hw, part_hw, strict=True))
    mean = sum(full / part for full, part in sides) / 2
    for guess in (2.0 ** round(math.log2(mean)), float(round(mean))):
        if all(abs(full / guess - part) <= 1 for full, part in sides):
            return guess
    return mean


def is_evenly_reduced(full_hw: tuple[int, int], part_hw: tuple[int, int]) -> bool:
    """Say whether one downsample explains both sides of a level, each to within a pixel.

    A side of one pixel may come from any side that is shorter than a pixel of the level.

    Examples
    --------
    >>> is_evenly_reduced((601, 803), (300, 402)), is_evenly_reduced((601, 803), (601, 402))
    (True, False)
    """
    sides = tuple(zip(full_hw, part_hw, strict=True))
    lowest = max(full / (part + 1) for full, part in sides)
    highest = min(full / (part - 1) if part > 1 else math.inf for full, part in sides)
    return lowest <= highest


def paste(window: NDArray[Any], tile: NDArray[Any], origin_yx: tuple[int, int]) -> None:
    """Copy the part of a tile that lies inside the window."""
    (y, x), (h, w) = origin_yx, window.shape[:2]
    y1, x1 = min(h, y + tile.shape[0]), min(w, x + tile.shape[1])
    y0, x0 = max(0, y), max(0, x)
    window[y0:y1, x0:x1] = tile[y0 - y : y1 - y, x0 - x : x1 - x]


def row_strips(image: NDArray[Any]) -> Iterator[slice]:
    """Divide the rows of an image so that what is made of some is small, however large it is.

    Examples
    --------
    >>> [strip.start for strip in row_strips(np.empty((5, 15_000), bool))]
    [0, 2, 4]
    """
    height, width = image.shape[:2]
    rows = max(1, _STRIP_PX // max(1, width))
    return (slice(y0, y0 + rows) for y0 in range(0, height, rows))


def rgb_from_samples(samples: NDArray[Any], alpha: AlphaKind = "straight") -> NDArray[Any]:
    """Turn decoded samples into RGB of the same depth.

    Parameters
    ----------
    samples : uint8, uint16 or bool, shape (h, w) or (h, w, 1..4)
        Grey, grey + alpha, RGB or RGBA. bool becomes 0 and 255.
    alpha : {"straight", "premultiplied", "ignore"}
        How colours relate to the alpha channel, which is composited on white.

    Returns
    -------
    uint8 or uint16, shape (h, w, 3)
        Contiguous; may share memory with ``samples``.
    """
    if samples.dtype == bool:
        samples = samples.astype(np.uint8) * np.uint8(255)
    if samples.ndim == 2:
        samples = samples[..., None]
    colour = samples
    if samples.shape[2] in (2, 4):
        colour = _on_white(samples[..., :-1], samples[..., -1:], alpha)
    if colour.shape[2] == 1:
        colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    return np.ascontiguousarray(colour)


def _on_white(colour: NDArray[Any], opacity: NDArray[Any], alpha: AlphaKind) -> NDArray[Any]:
    white = np.iinfo(colour.dtype).max
    if alpha == "ignore" or (opacity == white).all():
        return colour
    composite = np.empty(colour.shape, colour.dtype)
    for rows in row_strips(colour):
        wide, cover = colour[rows].astype(np.uint32), opacity[rows].astype(np.uint32)
        if alpha == "premultiplied":
            composite[rows] = np.minimum(wide + (white - cover), white)
        else:
            composite[rows] = (wide * cover + white * (white - cover) + white // 2) // white
    return composite


def _checked_array(image: Any) -> NDArray[Any]:
    if isinstance(image, (str, bytes, os.PathLike)):
        raise SlideError(
            f"An image is an array here. Received: the path {os.fspath(image)!r}.",
            hint="cellseg.segment(path) reads files.",
        )
    array = np.asarray(image)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in (np.uint8, np.uint16, np.bool_):
        raise SlideError(
            f"Images must hold uint8, uint16 or bool. Received: dtype={array.dtype}.",
            hint=_scaling_hint(array.dtype),
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise SlideError(
            "Images must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). "
            f"Received: shape={array.shape}."
        )
    if 0 in array.shape:
        raise SlideError(f"Images must have at least one pixel. Received: shape={array.shape}.")
    return array


def _scaling_hint(dtype: np.dtype[Any]) -> str:
    """Say how an array becomes an image; whole numbers times 255 would go round and round."""
    if dtype.kind in "iu":
        return "Values up to 255: image.astype('uint8'); up to 65535: image.astype('uint16')."
    return "Scale it first: values of 0 to 1 by (image * 255).round().astype('uint8')."


def check_mpp(*sides_um: float) -> None:
    """Refuse sizes of a pixel that nothing has: none, and what is no number."""
    if not all(_LEAST_MPP <= side <= _MOST_MPP for side in sides_um):
        raise SlideError(
            f"Microns per pixel must be positive, {_LEAST_MPP:g} to {_MOST_MPP:g}. "
            f"Received: mpp={', '.join(map(str, sides_um))}."
        )


def _mpp_pair(mpp: float | tuple[float, float] | None) -> tuple[float, float] | None:
    if mpp is None:
        return None
    x, y = mpp if isinstance(mpp, (tuple, list)) else (mpp, mpp)
    check_mpp(x, y)
    return float(x), float(y)
