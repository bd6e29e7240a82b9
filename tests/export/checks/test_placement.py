"""What depends on a tile's place or size is refused; what does not is let through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellseg.errors import ExportError
from cellseg.export.checks.placement import check_placement


def mean_of_neighbours(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    padded = np.pad(image.astype(np.float32) / 255, ((1, 1), (1, 1), (0, 0)))
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return np.asarray(around / 4)


def test_a_local_network_passes() -> None:
    assert check_placement(mean_of_neighbours, 1, 1) == 0.0


def test_a_halo_that_is_too_small_is_found() -> None:
    with pytest.raises(ExportError, match="cut of rows"):
        check_placement(mean_of_neighbours, 1, 0)


@pytest.mark.parametrize(
    ("axis", "word"), [(0, "rows"), (1, "columns")], ids=["along y", "along x"]
)
def test_positions_are_found_along_either_axis(axis: int, word: str) -> None:
    def with_positions(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        shape = [-1 if at == axis else 1 for at in range(3)]
        places = np.linspace(0, 1, image.shape[axis], dtype=np.float32).reshape(shape)
        return np.asarray(mean_of_neighbours(image) + 0.01 * places)

    with pytest.raises(ExportError, match=f"cut of {word}") as caught:
        check_placement(with_positions, 4, 4)
    assert "align_corners" in (caught.value.hint or "")


def test_a_grid_coarser_than_the_stride_is_found() -> None:
    def in_blocks(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        rows = np.repeat(image[::8].astype(np.float32) / 255, 8, 0)
        return np.asarray(rows[: len(image)])

    check_placement(in_blocks, 8, 8)
    with pytest.raises(ExportError, match="where its tile lies"):
        check_placement(in_blocks, 2, 8)
