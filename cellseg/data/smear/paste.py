"""Pasting a cell: turned, feathered in the image, one class or the other in the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.data.smear.cutouts import Cutout

__all__ = ["Canvas", "Turned", "turned"]

_TURNS = ("none", "hflip", "vflip", "quarter", "angle")


@dataclass(frozen=True)
class Turned:
    """A cell as it will be pasted."""

    rgb: NDArray[np.float32]
    """Shape (h, w, 3)."""
    alpha: NDArray[np.float32]
    """Share of the cell in the image, 0..1, feathered at the edge, shape (h, w)."""
    mask: NDArray[np.uint8]
    """1 where the label is the cell's; never interpolated."""


def turned(
    cell: Cutout,
    rng: np.random.Generator,
    feather_px: float,
    ground: tuple[float, float, float] | None,
) -> Turned:
    """Turn a cell: not at all, mirrored, by quarters or by any angle, each in a fifth of the cases.

    Parameters
    ----------
    cell : Cutout
        What is pasted.
    rng : Generator
        Decides how it lies.
    feather_px : float
        Sigma of the edge's softness; 0 pastes hard.
    ground : (float, float, float) or None
        Colour of the new slide: the cell is brought from its own ground to it. None: as it is.
    """
    import cv2

    rgb, mask = cell.rgb, cell.mask
    kind = _TURNS[rng.integers(len(_TURNS))]
    if kind == "hflip":
        rgb, mask = rgb[:, ::-1], mask[:, ::-1]
    elif kind == "vflip":
        rgb, mask = rgb[::-1], mask[::-1]
    elif kind == "quarter":
        times = int(rng.integers(1, 4))
        rgb, mask = np.rot90(rgb, times), np.rot90(mask, times)
    elif kind == "angle":
        rgb, mask = _rotated(rgb, mask, float(rng.uniform(0, 360)))
    values = rgb.astype(np.float32)
    if ground is not None:
        gain = np.array(ground, np.float32) / np.maximum(np.array(cell.ground, np.float32), 1)
        values = np.minimum(values * gain, 255)
    alpha = mask.astype(np.float32)
    if feather_px > 0:
        alpha = cv2.GaussianBlur(alpha, (0, 0), feather_px, borderType=cv2.BORDER_CONSTANT)
    return Turned(values, alpha, np.ascontiguousarray(mask))


class Canvas:
    """An image being made, with its class and instance maps.

    Parameters
    ----------
    rgb : uint8, shape (H, W, 3)
        Ground; written into.
    classes : uint8, shape (H, W)
        Written into.
    ids : uint16, shape (H, W)
        Instance of each pixel; written into.
    """

    def __init__(
        self, rgb: NDArray[np.uint8], classes: NDArray[np.uint8], ids: NDArray[np.uint16]
    ) -> None:
        self.rgb, self.classes, self.ids = rgb, classes, ids

    def paste(
        self, cell: Turned, centre_xy: tuple[int, int], class_index: int, number: int
    ) -> tuple[int, int, int, int] | None:
        """Lay a cell over what is there.

        Returns
        -------
        (int, int, int, int) or None
            Box of its visible part: x0, y0, x1, y1, half open; None where nothing is visible.
        """
        height, width = cell.mask.shape
        x0, y0 = centre_xy[0] - width // 2, centre_xy[1] - height // 2
        top, left = max(0, -y0), max(0, -x0)
        bottom, right = min(height, len(self.ids) - y0), min(width, self.ids.shape[1] - x0)
        if top >= bottom or left >= right:
            return None
        part = np.s_[top:bottom, left:right]
        target = np.s_[y0 + top : y0 + bottom, x0 + left : x0 + right]
        alpha = cell.alpha[part][..., None]
        below = self.rgb[target]
        self.rgb[target] = np.rint(below + (cell.rgb[part] - below) * alpha).astype(np.uint8)
        inside = cell.mask[part] > 0
        self.classes[target][inside] = class_index
        self.ids[target][inside] = number
        ys, xs = np.nonzero(inside)
        if not ys.size:
            return None
        ox, oy = x0 + left, y0 + top
        return (
            int(xs.min()) + ox,
            int(ys.min()) + oy,
            int(xs.max()) + ox + 1,
            int(ys.max()) + oy + 1,
        )


def _rotated(
    rgb: NDArray[np.uint8], mask: NDArray[np.uint8], degrees: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Rotate about the centre into a frame as wide as the diagonal."""
    import cv2

    height, width = mask.shape
    side = int(np.ceil(np.hypot(height, width))) + 2
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += (side - 1) / 2 - np.array([(width - 1) / 2, (height - 1) / 2])
    size, border = (side, side), cv2.BORDER_REPLICATE
    image = cv2.warpAffine(np.ascontiguousarray(rgb), matrix, size, borderMode=border)
    labels = cv2.warpAffine(np.ascontiguousarray(mask), matrix, size, flags=cv2.INTER_NEAREST)
    return image, labels
