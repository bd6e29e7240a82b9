"""Leaks: images that show the same, or parts of the same field, on both sides of a split.

The seeds' blood-cell set was multiplied by six and split then, so that a test image is a training
image turned; the crops of the Data Science Bowl are pieces of larger fields; a cell may be cut out
twice, some pixels apart. All are found here, and joined to groups that a split does not divide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.data.form.padding import without_padding
from cellseg.data.splits.alike import alike_pairs, thumbs_of
from cellseg.data.splits.borders import borders_of, neighbour_pairs
from cellseg.data.splits.overlaps import overlapping_pairs, points_of
from cellseg.data.splits.turned import circles_of, turned_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cellseg.data.form.dataset import Item

__all__ = ["Leak", "across_splits", "find_leaks", "join_groups"]


@dataclass(frozen=True)
class Leak:
    """Two images that belong together."""

    one: int
    """Index of the first image."""
    two: int
    """Index of the second, above the first."""
    kind: str
    """"copy" (turned by any angle, mirrored, resized, saved again), "overlap" (crops that share a
    part of a field, also turned or mirrored) or "neighbour" (crops of one field, side by side)."""
    likeness: float
    """Correlation."""


def find_leaks(
    items: Sequence[Item], progress: Callable[[int, int], None] | None = None
) -> list[Leak]:
    """Compare all images with all.

    Parameters
    ----------
    items : sequence of Item
        Images of a data set.
    progress : callable, optional
        Called with images read and images in all.
    """
    thumbs, borders, points, circles = [], [], [], []
    for done, item in enumerate(items, start=1):
        image = without_padding(item.read_rgb())
        thumbs.append(thumbs_of(image))
        borders.append(borders_of(image))
        points.append(points_of(image))
        circles.append(circles_of(image))
        if progress is not None:
            progress(done, len(items))
    pairs = [*alike_pairs(thumbs), *turned_pairs(circles)]
    copies = [Leak(a, b, "copy", round(c, 3)) for a, b, c in pairs]
    overlaps = [
        Leak(found.one, found.two, "overlap", round(found.likeness, 3))
        for found in overlapping_pairs(
            points, lambda index: without_padding(items[index].read_rgb())
        )
    ]
    neighbours = [Leak(a, b, "neighbour", round(c, 3)) for a, b, c in neighbour_pairs(borders)]
    kept: dict[tuple[int, int], Leak] = {}
    for leak in (*copies, *overlaps, *neighbours):  # a pair is named once, by what says most
        kept.setdefault((leak.one, leak.two), leak)
    return list(kept.values())


def across_splits(leaks: Iterable[Leak], splits: Sequence[str]) -> list[Leak]:
    """Keep the leaks whose two images lie in different splits."""
    return [leak for leak in leaks if splits[leak.one] != splits[leak.two]]


def join_groups(groups: Sequence[str], leaks: Iterable[Leak]) -> list[str]:
    """Give images that belong together one group, named after its first.

    Examples
    --------
    >>> join_groups(["a", "b", "c"], [Leak(1, 2, "copy", 1.0)])
    ['a', 'b', 'b']
    """
    parent = {name: name for name in groups}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for leak in leaks:
        one, two = sorted((root(groups[leak.one]), root(groups[leak.two])))
        parent[two] = one
    return [root(name) for name in groups]
