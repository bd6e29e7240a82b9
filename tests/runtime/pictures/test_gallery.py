"""The gallery: which cells are shown, and how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellseg.runtime.pictures.gallery import COLUMNS, THUMB_PX, Gallery, draw_gallery, pick_cells


def cells(count: int = 100, name: str = "nucleus") -> dict[str, Any]:
    """Cells in a row, each larger than the one before, numbered from the right."""
    x = 20.0 + 40 * np.arange(count)
    half = np.linspace(2, 12, count)
    return {
        "id": np.arange(count, 0, -1),
        "class": np.full(count, name),
        "x_px": x,
        "y_px": np.full(count, 20.0),
        "x0_px": x - half,
        "x1_px": x + half,
        "y0_px": 20 - half,
        "y1_px": 20 + half,
        "area_px": (4 * half**2).astype(int),
        "touches_border": np.arange(count) < 10,
    }


def gallery(table: dict[str, Any]) -> Gallery:
    def labels(y0: int, x0: int, h: int, w: int) -> np.ndarray:
        y, x = np.mgrid[y0 : y0 + h, x0 : x0 + w]
        found = np.zeros((h, w), int)
        for index, number in enumerate(table["id"]):
            radius = (table["x1_px"][index] - table["x0_px"][index]) / 2
            inside = (y - 20) ** 2 + (x - table["x_px"][index]) ** 2 <= radius**2
            found[inside] = number
        return found

    def rgb(y0: int, x0: int, h: int, w: int) -> np.ndarray:
        return np.repeat((labels(y0, x0, h, w) > 0)[..., None] * np.uint8(120), 3, axis=2)

    return Gallery(table, 1.0, rgb, labels)


def test_cells_are_shown_by_even_ranks_of_size_smallest_first() -> None:
    table = cells()
    rows = pick_cells(table, "nucleus")
    assert len(rows) == 24
    assert (np.diff(table["area_px"][rows]) >= 0).all()
    assert set(np.diff(rows)) <= {3, 4}


def test_cells_at_the_border_are_shown_only_where_there_are_no_others() -> None:
    table = cells()
    assert pick_cells(table, "nucleus").min() >= 10
    table["touches_border"][:] = True
    assert pick_cells(table, "nucleus").min() < 10


def test_the_order_of_the_table_changes_nothing() -> None:
    table = cells(60)
    table["area_px"][:] = 50  # a tie all over
    shuffled = np.random.default_rng(0).permutation(60)
    other = {name: column[shuffled] for name, column in table.items()}
    first, second = (each["id"][pick_cells(each, "nucleus")] for each in (table, other))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize("count", [1, 5, 30])
def test_a_sheet_has_a_crop_for_each_cell_and_an_outline_in_it(count: int) -> None:
    table = cells(count)
    table["touches_border"][:] = False
    sheet = gallery(table).sheet("nucleus", (255, 0, 0))
    assert sheet is not None
    shown = min(24, count)
    assert sheet.shape[0] // THUMB_PX == -(-shown // COLUMNS)
    red = (sheet[..., 0] > 150) & (sheet[..., 1] < 90)
    for index in range(shown):
        y, x = (place * (THUMB_PX + 4) + 4 for place in divmod(index, COLUMNS))
        assert red[y : y + THUMB_PX, x : x + THUMB_PX].any()


def test_classes_follow_one_another_and_none_is_said() -> None:
    table = cells(4)
    colours = {"other": (0, 0, 255), "nucleus": (255, 0, 0)}
    drawn = draw_gallery(gallery(table), colours)
    assert drawn.shape[1] == COLUMNS * (THUMB_PX + 4) + 4
    empty = {name: column[:0] for name, column in table.items()}
    assert draw_gallery(gallery(empty), colours).shape[0] < 40
