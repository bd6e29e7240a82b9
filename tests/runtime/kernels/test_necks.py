"""Cells are parted where two round parts meet, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction

from cellseg.runtime.bundles.manifest import InteriorBorder
from cellseg.runtime.cells.parting import judged_cells, label_cells
from cellseg.runtime.cells.runs import CellRuns
from cellseg.runtime.kernels.necks import has_neck, relief

RULE = InteriorBorder(interior_channel=1, seed_threshold=0.5, min_area_px=20, neck_depth=0.2)
HW = (70, 90)


def discs(*each: tuple[float, float, float], hw: tuple[int, int] = HW) -> NDArray[np.bool_]:
    """Paint discs of (y, x, radius)."""
    y, x = np.mgrid[: hw[0], : hw[1]]
    return np.any([np.hypot(y - cy, x - cx) < r for cy, cx, r in each], axis=0)


def blob(seed: int) -> NDArray[np.bool_]:
    """Paint a random connected shape: overlapping discs, roughened."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 5)
    found = discs(*zip(rng.uniform(18, 52, count), rng.uniform(18, 72, count),
                       rng.uniform(4, 16, count), strict=True))  # fmt: skip
    found ^= rng.random(HW) < rng.choice([0, 0.05])
    pieces = label(found, connectivity=1)
    return np.asarray(pieces == np.bincount(pieces[found]).argmax())


def parted(mask: NDArray[np.bool_], rule: InteriorBorder = RULE) -> NDArray[np.uint32]:
    """Label map of a cell that is as sure everywhere as can be."""
    return label_cells(mask, np.full(mask.shape, 255, np.uint8), rule)[0]


def sees_neck(mask: NDArray[np.bool_]) -> bool:
    cell = CellRuns.of_labels(mask.astype(np.uint32))
    return has_neck(cell.runs, cell.boxes[0], np.empty(4 * (sum(mask.shape) + 1), np.int32))


def heights_of(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return what the kernel sees of a mask that it is given whole."""
    cell = CellRuns.of_labels(mask.astype(np.uint32))
    framed = (mask.shape[0] + 2, mask.shape[1] + 2)
    heights = np.zeros(framed, np.uint8)
    relief(cell.runs, np.empty(framed, np.int32), np.empty(framed, np.int32), heights)
    return heights[1:-1, 1:-1]


def heights_by_numpy(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Relax distances until none falls any more, then take means."""
    steps = np.array([[4, 3, 4], [3, 0, 3], [4, 3, 4]])
    inside = np.pad(mask, 3)
    distance = np.where(inside, 10**6, 0)
    while True:
        least = np.min(
            [
                np.roll(distance, (y - 1, x - 1), (0, 1)) + steps[y, x]
                for y in range(3)
                for x in range(3)
            ],
            axis=0,
        )
        least[~inside] = 0
        if (least == distance).all():
            break
        distance = least
    total = ndimage.convolve(distance, np.ones((5, 5), int), mode="constant")
    total[~inside] = 0
    top = total.max()
    return (total * (255 / top) + 0.5).astype(np.uint8)[3:-3, 3:-3]


def has_valley(widths: NDArray[np.int64]) -> bool:
    """Try all places."""
    return any(
        widths[place] < 0.75 * min(widths[:place].max(), widths[place + 1 :].max())
        and min(widths[:place].sum(), widths[place + 1 :].sum()) >= widths.sum() / 8
        for place in range(1, len(widths) - 1)
    )


def widths_of(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Along rows, columns, and pairs of neighbouring diagonals."""
    y, x = np.nonzero(mask)
    diagonals = (np.bincount(y + x), np.bincount(y - x + mask.shape[1]))
    pairs = [np.convolve(each, [1, 1]) for each in diagonals]
    return [np.trim_zeros(each) for each in (mask.sum(axis=0), mask.sum(axis=1), *pairs)]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_relief_is_that_of_numpy(seed: int) -> None:
    mask = blob(seed)
    np.testing.assert_array_equal(heights_of(mask), heights_by_numpy(mask))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_necks_are_seen_where_widths_fall(seed: int) -> None:
    mask = blob(seed)
    assert sees_neck(mask) == any(map(has_valley, widths_of(mask)))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_there_are_as_many_parts_as_maxima_of_that_depth(seed: int) -> None:
    mask = blob(seed)
    heights = heights_of(mask).astype(int)
    cross = ndimage.generate_binary_structure(2, 1)
    # Domes cut off by less than the depth, 51: what rises by just that still stands out, and equal
    # peaks with a shallow pass between them are one.
    domes = reconstruction(np.maximum(heights - 50, 0), heights, footprint=cross)
    expected = int(label(local_maxima(domes, footprint=cross) & mask, connectivity=1).max())
    found = parted(mask)
    assert ((found > 0) == mask).all()
    if found.max() == 1:
        return
    assert found.max() == expected
    assert sees_neck(mask)
    sizes = np.bincount(found[found > 0])[1:]
    assert sizes.min() >= max(20, 0.2 * sizes.sum())


@pytest.mark.parametrize("angle_deg", range(0, 180, 15))
def test_two_discs_that_touch_are_two_cells_at_any_angle(angle_deg: int) -> None:
    step = 9.5 * np.array([np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))])
    centre = np.array([35.0, 45.0])
    mask = discs((*(centre - step), 11), (*(centre + step), 11))
    found = parted(mask)
    assert found.max() == 2
    sizes = np.bincount(found[mask])[1:]
    assert sizes.max() < 1.3 * sizes.min()  # the pixels of the neck go to one of them
    assert parted(mask, RULE.model_copy(update={"neck_depth": 0.0})).max() == 1


@pytest.mark.parametrize(
    "mask",
    [
        discs((35, 45, 20)),
        discs((35, 30, 12), (35, 36, 12), (35, 42, 12), (35, 48, 12)),  # a rod
        discs((35, 40, 16), (35, 57, 4)),  # a bump: too small a part
        discs((20, 20, 3), (20, 25, 3)),  # parts smaller than any cell
        discs((35, 45, 20)) & ~discs((35, 65, 4)),  # a notch
    ],
)
def test_what_has_no_two_round_parts_stays_whole(mask: NDArray[np.bool_]) -> None:
    assert parted(mask).max() == 1


def test_three_in_a_row_are_three() -> None:
    assert parted(discs((35, 20, 10), (35, 37, 10), (35, 54, 10))).max() == 3


def test_a_cell_that_the_window_cuts_is_not_judged() -> None:
    mask = discs((35, 25, 11), (35, 44, 11))
    cell = CellRuns.of_labels(mask.astype(np.uint32))
    interior = np.full(HW, 255, np.uint8)
    assert len(judged_cells(cell, interior, RULE)) == 2
    assert len(judged_cells(cell, interior, RULE, is_cut=np.array([True]))) == 1


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_where_a_cell_lies_changes_nothing(seed: int, dy: int, dx: int) -> None:
    mask = blob(seed)
    assume(not mask[-9:].any() and not mask[:, -9:].any())
    moved = np.roll(parted(mask), (dy, dx), (0, 1))
    np.testing.assert_array_equal(parted(np.roll(mask, (dy, dx), (0, 1))), moved)
