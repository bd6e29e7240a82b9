"""Groups are dealt out to train, valid and test.

One after the other, the rarest classes and the largest groups first, each to the split whose shares
of images and of every class it brings nearest to what was asked for. The seed decides ties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.data.form.sample import SPLITS
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["deal"]


def deal(
    groups: Sequence[str],
    given: Sequence[str],
    present: NDArray[np.bool_],
    parts: Sequence[float],
    seed: int,
) -> list[str]:
    """Choose the split of each image.

    Parameters
    ----------
    groups : sequence of str
        Group of each image.
    given : sequence of str
        Split of each image where it is settled, else an empty string.
    present : bool, shape (images, classes)
        Whether an image shows a class.
    parts : sequence of float
        Of train, valid and test; brought to a sum of 1.
    seed : int
        Decides ties.

    Returns
    -------
    list of str
        ``train``, ``valid`` or ``test``.

    Raises
    ------
    DataError
        If the parts are no shares, or there are fewer groups than splits.
    """
    shares = np.array(parts, float)
    is_share = np.isfinite(shares) & (shares >= 0)
    if shares.shape != (3,) or not is_share.all() or shares[0] == 0:
        raise DataError(
            f"Shares are three numbers from 0 on, train's above 0. Received: {list(parts)}."
        )
    shares /= shares.sum()
    names = list(dict.fromkeys(groups))
    wanted = int(np.count_nonzero(shares))
    if len(names) < wanted:
        raise DataError(
            f"Each split needs a group of its own. Received: {len(names)} groups for {wanted} "
            "splits.",
            hint="Use finer groups, or fewer splits: --shares 0.8,0.2,0.",
        )
    index = np.array([names.index(group) for group in groups])
    weights = np.column_stack([np.ones(len(groups)), present]).astype(float)
    totals = np.zeros((len(names), weights.shape[1]))
    np.add.at(totals, index, weights)
    fixed = {group: split for group, split in zip(groups, given, strict=True) if split}
    chosen = _deal_groups(names, totals, shares, fixed, seed)
    return [chosen[group] for group in groups]


def _deal_groups(
    names: Sequence[str],
    totals: NDArray[np.float64],
    shares: NDArray[np.float64],
    fixed: dict[str, str],
    seed: int,
) -> dict[str, str]:
    want = shares[:, None] * totals.sum(0)
    scale = np.maximum(totals.sum(0), 1.0)
    have = np.zeros_like(want)
    left = (totals > 0).sum(0)
    rarity = np.where(totals > 0, left, len(names) + 1).min(1)
    shuffled = np.random.default_rng(seed).permutation(len(names)).tolist()
    order = sorted(shuffled, key=lambda i: (names[i] not in fixed, rarity[i], -totals[i, 0]))
    chosen: dict[str, str] = {}
    for group in order:
        if names[group] in fixed:
            split = SPLITS.index(fixed[names[group]])
        else:
            allowed = _allowed(have, left, totals[group], np.flatnonzero(shares).tolist())
            costs = [_cost(have, want, scale, s, totals[group]) for s in allowed]
            split = allowed[int(np.argmin(costs))]
        have[split] += totals[group]
        left = left - (totals[group] > 0)
        chosen[names[group]] = SPLITS[split]
    return chosen


def _allowed(
    have: NDArray[np.float64], left: NDArray[np.intp], group: NDArray[np.float64], splits: list[int]
) -> list[int]:
    """Return the splits that may take a group: where a class runs out, those that lack it.

    Train comes first among them.

    Column 0 counts images, so that no split stays empty.
    """
    classes = np.flatnonzero(group > 0)
    for column in sorted(classes.tolist(), key=lambda c: (left[c], c)):
        lacking = [split for split in splits if have[split, column] == 0]
        if lacking and left[column] <= len(lacking):
            return [0] if 0 in lacking else lacking
    return splits


def _cost(
    have: NDArray[np.float64],
    want: NDArray[np.float64],
    scale: NDArray[np.float64],
    split: int,
    group: NDArray[np.float64],
) -> float:
    """By how much giving a group to a split moves it away from what was asked for."""
    before = ((have[split] - want[split]) / scale) ** 2
    after = ((have[split] + group - want[split]) / scale) ** 2
    return float((after - before).sum())
