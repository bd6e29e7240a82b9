"""What pictures are labelled with: text, scale bars, round numbers."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["draw_scale_bar", "draw_text", "length_text", "nice_number", "number_text"]

_SCALE = 0.45


def nice_number(value: float) -> float:
    """Return the smallest of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten that is not below.

    Examples
    --------
    >>> nice_number(3120.0), nice_number(0.07), nice_number(0.0)
    (4000.0, 0.08, 0.0)
    """
    if value < sys.float_info.min * 10:  # its power of ten would be 0
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
    step = next(step for step in steps if step * power >= value * (1 - 1e-9))
    return float(f"{step * power:.6g}")


def number_text(value: float) -> str:
    """Return a number in a few digits, never with an exponent.

    Examples
    --------
    >>> number_text(12345.6), number_text(0.1234567)
    ('12,346', '0.123')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{float(f'{value:.3g}'):.10g}"


def length_text(microns: float) -> str:
    """Return a length in the unit that suits it, in letters that OpenCV can draw.

    Examples
    --------
    >>> length_text(50), length_text(2000)
    ('50 um', '2 mm')
    """
    return f"{microns / 1000:g} mm" if microns >= 1000 else f"{microns:g} um"


def draw_text(
    picture: NDArray[np.uint8], text: str, xy: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Write a line of ASCII in place; ``xy`` is its lower left corner."""
    import cv2

    plain = text.encode("ascii", "replace").decode()
    cv2.putText(picture, plain, xy, cv2.FONT_HERSHEY_SIMPLEX, _SCALE, colour, 1, cv2.LINE_AA)


def draw_scale_bar(
    picture: NDArray[np.uint8],
    px_um: float,
    xy: tuple[int, int],
    longest_px: int,
    colour: tuple[int, int, int],
) -> None:
    """Draw a bar of a round length in place, what it stands for above it.

    Parameters
    ----------
    picture : uint8, shape (h, w, 3)
    px_um : float
        Microns per pixel.
    xy : (int, int)
        Its left end.
    longest_px : int
        What it may take.
    colour : (int, int, int)
    """
    longest_um = longest_px * px_um
    power = 10.0 ** math.floor(math.log10(longest_um))
    length_um = max(step * power for step in (1, 2, 5) if step * power <= longest_um * (1 + 1e-9))
    x, y = xy
    picture[y - 2 : y + 2, x : x + max(1, round(length_um / px_um))] = colour
    draw_text(picture, length_text(length_um), (x, y - 8), colour)
