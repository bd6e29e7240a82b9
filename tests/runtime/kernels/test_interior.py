"""What is kept to tell cells apart by, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg.runtime.bundles.manifest import InteriorBorder
from cellseg.runtime.cells.parting import interior_steps
from cellseg.runtime.kernels.interior import count_sure

RULE = InteriorBorder(interior_channel=1, seed_threshold=0.5, min_area_px=4)
SURE = RULE.model_copy(update={"sure_probability": 0.8, "min_sure": 0.4})


@pytest.fixture
def probabilities() -> np.ndarray:
    values = np.random.default_rng(0).uniform(-0.1, 1.1, (31, 17, 3))
    values[0, :2, 1] = (0.5 / 255, 2.5 / 255)  # halves, which are rounded to even numbers
    return values.astype(np.float32)


def test_without_a_question_the_byte_is_the_channel(probabilities: np.ndarray) -> None:
    expected = np.rint(np.clip(probabilities[..., 1], 0, 1) * 255).astype(np.uint8)
    np.testing.assert_array_equal(interior_steps(probabilities, RULE), expected)
    part = probabilities[3:9, 2:11]
    np.testing.assert_array_equal(interior_steps(part, RULE), expected[3:9, 2:11])


def test_the_last_bit_says_where_foreground_is_sure(probabilities: np.ndarray) -> None:
    found = interior_steps(probabilities, SURE)
    plain = interior_steps(probabilities, RULE)
    np.testing.assert_array_equal(found & 254, plain & 254)
    np.testing.assert_array_equal(found & 1, 1 - probabilities[..., 0] >= np.float32(0.8))


def test_sure_pixels_are_counted_by_runs() -> None:
    interior = np.array([[1, 0, 3, 255], [7, 2, 4, 9]], np.uint8)
    runs = np.array([[0, 0, 3], [1, 0, 1], [0, 3, 4]], np.int32)
    counts = np.empty(2, np.int64)
    count_sure(runs, np.array([0, 2, 3], np.int32), interior, counts)
    assert counts.tolist() == [3, 1]
