"""Pictures of what a recipe's model found."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.train.scores.apply import painted
from cellseg.train.sections import Recipe


def test_a_dim_image_of_16_bits_is_not_painted_black() -> None:
    recipe = Recipe.model_validate({"name": "r", "sources": [{"name": "a", "path": "a"}]})
    ramp = np.linspace(300, 3100, 64 * 64).reshape(64, 64, 1).repeat(3, -1).astype(np.uint16)
    picture = painted(ramp, np.zeros((64, 64), np.uint8), recipe)
    assert (picture.min(), picture.max()) == (0, 255)
