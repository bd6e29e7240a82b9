"""Who goes where: cut-outs to splits, then to images, before a pixel is made.

A cut-out's group goes to one split, 80/10/10 of each class, so that no cell is in two. Within a
split cells and fields are dealt like cards: each is used once until the pack is through.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cellseg.data.form.sample import SPLITS
from cellseg.data.smear.classes import CLASSES, HEALTHY, INFECTED, PASTED
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellseg.data.smear.cutouts import Cutout

__all__ = ["Background", "ImagePlan", "SmearPlan", "deal_groups", "plan_smears"]

_SHARES = (0.8, 0.1, 0.1)
_COUNTS = (0, 1, 2, 3, -1)
"""Cells pasted into an image; -1: many, 4 to 8."""
_COUNT_SHARES = (0.1, 0.4, 0.25, 0.15, 0.1)
_MANY = (4, 9)
_RED_CELLS = (90, 190)
"""Red cells in a field, from sparse to crowded."""
_KINDS = {"nn": (HEALTHY,), "ii": (INFECTED,), "ni": (HEALTHY, INFECTED)}
_PER_FIELD = 44
"""Images cut from one field: the seed made 65,350 from 1,500."""


@dataclass(frozen=True)
class ImagePlan:
    """One image to make."""

    index: int
    """Place in its split; seeds its randomness."""
    cells: tuple[int, ...]
    """Cut-outs to paste, as places in the library."""


@dataclass(frozen=True)
class Background:
    """One field and the images cut from it."""

    split: str
    index: int
    kind: str
    """"nn" healthy red cells, "ii" infected ones, "ni" both."""
    red: tuple[int, ...]
    """Its red cells, as places in the library."""
    images: tuple[ImagePlan, ...]


@dataclass
class SmearPlan:
    """Everything that will be made."""

    splits: list[str]
    """Split of each cut-out."""
    backgrounds: list[Background] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Classes and splits without samples, in words."""


def deal_groups(cells: Sequence[Cutout], seed: int) -> list[str]:
    """Deal cut-outs to train, valid and test, 80/10/10 of each class, groups whole.

    Groups are dealt class by class, the rarest first; a group with cells of several classes keeps
    the split it got first.
    """
    rng = np.random.default_rng((seed, 1))
    of_group: dict[str, str] = {}
    counts = Counter(cell.class_index for cell in cells)
    for index in sorted(counts, key=lambda i: (counts[i], i)):
        sizes = Counter(cell.group for cell in cells if cell.class_index == index)
        have = dict.fromkeys(SPLITS, 0)
        for group, size in sizes.items():
            if group in of_group:
                have[of_group[group]] += size
        rest = [group for group in sizes if group not in of_group]
        for place in rng.permutation(len(rest)).tolist():
            group = rest[place]
            lacking = {
                s: share * counts[index] - have[s] for s, share in zip(SPLITS, _SHARES, strict=True)
            }
            # Train first: a single sample can be learned from, but nothing measured on it.
            split = max(SPLITS, key=lambda s: lacking[s])
            of_group[group] = split
            have[split] += sizes[group]
    return [of_group[cell.group] for cell in cells]


def plan_smears(cells: Sequence[Cutout], count: int, seed: int) -> SmearPlan:
    """Plan the images of all splits.

    Parameters
    ----------
    cells : sequence of Cutout
        The library.
    count : int
        Training images; validation and test get a tenth each, at least one.
    seed : int
        Decides everything.

    Raises
    ------
    DataError
        If there are no red cells, or a split has none.
    """
    if not any(cell.class_index in (HEALTHY, INFECTED) for cell in cells):
        raise DataError("A smear needs red cells. Received: none among the cut-outs.")
    plan = SmearPlan(deal_groups(cells, seed))
    present = {cell.class_index for cell in cells}
    plan.missing = [f"no samples of {c.name}" for c in CLASSES[1:] if c.value not in present]
    for number, split in enumerate(SPLITS):
        wanted = count if split == "train" else max(1, round(count / 10))
        rng = np.random.default_rng((seed, 2, number))
        plan.backgrounds += _plan_split(cells, plan, split, wanted, rng)
    return plan


def _plan_split(
    cells: Sequence[Cutout], plan: SmearPlan, split: str, count: int, rng: np.random.Generator
) -> list[Background]:
    of_class: dict[int, list[int]] = defaultdict(list)
    for place, (cell, its) in enumerate(zip(cells, plan.splits, strict=True)):
        if its == split:
            of_class[cell.class_index].append(place)
    present = {cell.class_index for cell in cells}
    plan.missing += [
        f"no samples of {c.name} in {split}"
        for c in CLASSES[1:]
        if c.value in present and not of_class[c.value]
    ]
    kinds = [kind for kind, needs in _KINDS.items() if all(of_class[index] for index in needs)]
    if not kinds:
        raise DataError(
            f"Every split needs red cells. Received: none in {split}.",
            hint="Give more fields: each goes to one split as a whole.",
        )
    packs = {index: _Pack(places, rng) for index, places in of_class.items() if places}
    pasted = [index for index in PASTED if index in packs]
    images = [_plan_image(index, packs, pasted, rng) for index in range(count)]
    backgrounds = []
    for index, start in enumerate(range(0, count, _PER_FIELD)):
        kind = kinds[index % len(kinds)]
        red = tuple(
            packs[_KINDS[kind][int(rng.integers(len(_KINDS[kind])))]].next()
            for _ in range(int(rng.integers(*_RED_CELLS)))
        )
        chosen = tuple(images[start : start + _PER_FIELD])
        backgrounds.append(Background(split, index, kind, red, chosen))
    return backgrounds


def _plan_image(
    index: int, packs: dict[int, _Pack], pasted: Sequence[int], rng: np.random.Generator
) -> ImagePlan:
    count = _COUNTS[int(rng.choice(len(_COUNTS), p=_COUNT_SHARES))]
    count = int(rng.integers(*_MANY)) if count < 0 else count
    if not pasted:
        return ImagePlan(index, ())
    classes = rng.choice(np.array(pasted), count)
    return ImagePlan(index, tuple(packs[int(c)].next() for c in classes))


class _Pack:
    """Cards that are dealt once each, then shuffled again."""

    def __init__(self, cards: Sequence[int], rng: np.random.Generator) -> None:
        self._cards, self._rng = np.array(cards), rng
        self._left: list[int] = []

    def next(self) -> int:
        """Deal one."""
        if not self._left:
            self._left = self._rng.permutation(self._cards).tolist()
        return int(self._left.pop())
