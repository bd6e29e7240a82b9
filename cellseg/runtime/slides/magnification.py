"""The objective a slide was scanned with, and whether its pixel size can be true.

A pixel size is what the model needs; the objective only makes it likely: an N-fold scan mostly has
pixels of 10 / N microns. Scanners with other cameras or adapters stray from that (0.24 at 20x, on
some), so that a contradiction is a warning and never an error.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellseg.runtime.slides.slide import Slide

__all__ = ["OBJECTIVE", "objective_in", "pixel_size_doubt"]

OBJECTIVE = "objective"
"""Key of a slide's ``properties``: the objective's power, as text."""

_UM_AT_1X = 10.0
_LOWEST, _HIGHEST = 0.55, 1.8  # of the pixel size that the objective makes likely
_PATTERNS = (
    r"\bAppMag\s*=\s*([\d.]+)",
    r"openslide\.objective-power</name>\s*<value[^>]*>([\d.]+)<",
    r"\bNominalMagnification=\"([\d.]+)\"",
)


def objective_in(description: str) -> str | None:
    """Find the objective's power in the description of a TIFF page (Aperio, OpenSlide, OME-XML).

    Examples
    --------
    >>> objective_in("Aperio ...|AppMag = 20|MPP = 0.499")
    '20'
    """
    for pattern in _PATTERNS:
        found = re.search(pattern, description)
        if found is not None:
            return found.group(1)
    return None


def pixel_size_doubt(slide: Slide) -> str | None:
    """Say what speaks against a slide's pixel size.

    Parameters
    ----------
    slide : Slide
        Its pixel size and ``properties`` count.

    Returns
    -------
    str or None
        One sentence that names both and ``--mpp``; None where they agree, where one is not known,
        or where the user gave the pixel size.
    """
    power = _power(slide.properties.get(OBJECTIVE))
    if power is None or slide.mpp is None or slide.properties.get("mpp from") == "given":
        return None
    mpp = math.sqrt(slide.mpp[0] * slide.mpp[1])
    likely = _UM_AT_1X / power
    if _LOWEST * likely <= mpp <= _HIGHEST * likely:
        return None
    return (
        f"{slide.path}: objective and pixel size contradict each other: {power:g}x mostly means "
        f"about {likely:.2g} microns a pixel. Received: objective={power:g}x, mpp={mpp:.4g} (from "
        f"{slide.properties.get('mpp from', 'the file')}). The pixel size is taken as it is; if "
        "it is wrong, give the right one with --mpp."
    )


def _power(text: str | None) -> float | None:
    try:
        power = float(text or "nan")
    except ValueError:
        return None
    return power if math.isfinite(power) and power > 0 else None
