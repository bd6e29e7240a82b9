"""Whether a pixel's result depends on where its tile lies, and how large the tile is.

What a network sees of its tile's place cannot be read off its operators alone: channels that hold
positions, a resize that stretches to the corners, a sum along a row. So it is tried: an image, and
the same image without its first rows (or columns), must give the same wherever the cut is a halo
away. What tiles that lie otherwise would give must be what the whole image gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

__all__ = ["check_placement"]

_LEAST_PX = 192
_LIMIT = 1e-4  # as for parity: float32 sums in another order
_STRIP_PX = 256  # across the cut


def check_placement(predict: Predict, stride: int, halo_px: int, seed: int = 0) -> float:
    """Compare an image with what is left of it when its first rows or columns are cut off.

    Parameters
    ----------
    predict : callable
        uint8 (h, w, 3) to float32 (h, w, C).
    stride : int
        So many rows or columns are cut off.
    halo_px : int
        What lies farther than this from the cut must stay the same.
    seed : int
        Of the image, which is noise in coarse and fine.

    Returns
    -------
    float
        The largest difference.

    Raises
    ------
    ExportError
        If a pixel far from the cut changes.
    """
    long_px = _rounded(max(_LEAST_PX, 2 * halo_px + 3 * stride), stride)
    image = _noise(long_px, _rounded(_STRIP_PX, stride), seed)
    differences = [_difference(predict, image, stride, halo_px, axis) for axis in (0, 1)]
    worst = max(differences)
    if not worst <= _LIMIT:  # also refuses NaN
        raise ExportError(
            "A pixel must not depend on where its tile lies or how large it is. Received: a "
            f"difference of {worst:.3g}, {halo_px} px and more from a cut of "
            f"{'rows' if worst == differences[0] else 'columns'}.",
            hint="Look for a resize with align_corners, coordinates or positions as input, "
            "attention, or a sum or mean along rows or columns.",
        )
    return worst


def _difference(
    predict: Predict, image: NDArray[np.uint8], stride: int, halo_px: int, axis: int
) -> float:
    turned = np.ascontiguousarray(image.swapaxes(0, axis))
    rest = np.ascontiguousarray(np.delete(turned, range(stride), axis))
    whole = np.delete(predict(turned), range(stride), axis).swapaxes(0, axis)
    part = predict(rest).swapaxes(0, axis)
    return float(np.abs(whole[halo_px:] - part[halo_px:]).max())


def _rounded(size: int, stride: int) -> int:
    return -(-size // stride) * stride


def _noise(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Blocks of 16 px, half a range of noise on top: no network sees nothing in it."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 128, (-(-height // 16), -(-width // 16), 3))
    coarse = np.kron(blocks, np.ones((16, 16, 1), np.int64))[:height, :width]
    return (coarse + rng.integers(0, 128, coarse.shape)).astype(np.uint8)
