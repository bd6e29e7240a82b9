"""Neighbouring crops of one field: the last column of one continues in the first of another.

Borders of equal length are compared all with all, as correlations of their profiles. Two neighbours
differ across the cut no more than two columns inside an image differ, and no other border fits
better; both must hold, from both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Borders", "borders_of", "neighbour_pairs"]

_MIN_CORRELATION = 0.9
_MAX_STEP_RATIO = 2.5
"""Difference across the cut over that of two neighbouring lines inside the images."""
_MIN_STD = 4.0
"""Of 255: a border without any structure fits every other."""
_MARGIN = 0.03
"""By how much the best fit must exceed the second best."""


@dataclass(frozen=True)
class Borders:
    """Outermost lines of an image."""

    lines: dict[str, NDArray[np.float32]]
    """``left``, ``right``, ``top``, ``bottom``: grey profile of the border line."""
    steps: dict[str, float]
    """Mean absolute difference between a border line and the next one inside."""


def borders_of(image: NDArray[np.uint8]) -> Borders:
    """Take the border lines of an image, grey (H, W) or RGB (H, W, 3)."""
    height, width = image.shape[:2]
    pairs = {
        "left": (image[:, 0], image[:, min(1, width - 1)]),
        "right": (image[:, -1], image[:, max(0, width - 2)]),
        "top": (image[0], image[min(1, height - 1)]),
        "bottom": (image[-1], image[max(0, height - 2)]),
    }
    grey = {name: (_grey(outer), _grey(inner)) for name, (outer, inner) in pairs.items()}
    lines = {name: outer for name, (outer, _) in grey.items()}
    steps = {name: float(np.abs(outer - inner).mean()) for name, (outer, inner) in grey.items()}
    return Borders(lines, steps)


def neighbour_pairs(borders: Sequence[Borders]) -> list[tuple[int, int, float]]:
    """Find pairs of images that continue each other.

    Returns
    -------
    list of (int, int, float)
        Two indices, the lower first, and the correlation across the cut.
    """
    found: dict[tuple[int, int], float] = {}
    for last, first in (("right", "left"), ("bottom", "top")):
        lengths = {len(item.lines[last]) for item in borders}
        for length in lengths:
            group = [i for i, item in enumerate(borders) if len(item.lines[last]) == length]
            for one, two, fit in _matches(borders, group, last, first):
                key = (min(one, two), max(one, two))
                found[key] = max(fit, found.get(key, 0.0))
    return [(one, two, fit) for (one, two), fit in sorted(found.items())]


def _matches(
    borders: Sequence[Borders], group: Sequence[int], last: str, first: str
) -> list[tuple[int, int, float]]:
    ends = np.stack([borders[i].lines[last] for i in group])
    begins = np.stack([borders[i].lines[first] for i in group])
    table = _unit(ends) @ _unit(begins).T
    np.fill_diagonal(table, -1.0)  # an image does not continue itself
    if len(group) < 2:
        return []
    best = table.argmax(1)
    mutual = table.argmax(0)[best] == np.arange(len(group))
    pairs = []
    for row in np.flatnonzero(mutual & (table.max(1) >= _MIN_CORRELATION)).tolist():
        column = int(best[row])
        one, two = group[row], group[column]
        across = float(np.abs(ends[row] - begins[column]).mean())
        inside = (borders[one].steps[last] + borders[two].steps[first]) / 2
        clear = _is_clear(table, row, column)
        structured = min(float(ends[row].std()), float(begins[column].std())) >= _MIN_STD
        if clear and structured and across <= _MAX_STEP_RATIO * max(inside, 0.5):
            pairs.append((one, two, float(table[row, column])))
    return pairs


def _is_clear(table: NDArray[np.float32], row: int, column: int) -> bool:
    """Tell whether no other border fits nearly as well, from either side."""
    if len(table) < 3:
        return True
    second = max(np.partition(table[row], -2)[-2], np.partition(table[:, column], -2)[-2])
    return bool(table[row, column] - second >= _MARGIN)


def _grey(line: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = line.astype(np.float32)
    return values if values.ndim == 1 else np.asarray(values.mean(-1), np.float32)


def _unit(lines: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = lines - lines.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(norms, 1e-6), np.float32)
