"""Cells of a frame are those of the same pixels in a slide."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cellseg.live.frame_cells import CellFinder
from cellseg.runtime.bundles.manifest import InteriorBorder
from cellseg.runtime.cells.parting import instances_from_probabilities


@pytest.mark.parametrize("min_sure", [0.0, 0.4])
def test_a_frames_cells_are_a_slides(min_sure: float) -> None:
    rule = InteriorBorder(
        interior_channel=1,
        seed_threshold=0.3,
        seed_blur_px=1.0,
        seed_depth=0.2,
        min_area_px=3,
        min_sure=min_sure,
    )
    values = np.random.default_rng(3).random((60, 80, 3)).astype(np.float32)
    values /= values.sum(-1, keepdims=True)
    values[15:45, 15:55] = (1, 0, 0)
    values[20:40, 20:50] = (0.01, 0.98, 0.01)
    job: Any = SimpleNamespace(
        cell_rule=rule,
        rule=SimpleNamespace(threshold=0.5),
        view=SimpleNamespace(hw=(60, 80)),
    )
    labels = np.empty((60, 80), np.uint32)
    count = CellFinder(job).label(values, labels)
    expected = instances_from_probabilities(values, rule)
    np.testing.assert_array_equal(labels, expected)
    assert count == expected.max() > 0
