from __future__ import annotations

import numpy as np
import pytest

from cellseg.errors import ExportError
from cellseg.export.checks.parity import keras_predict, measure_parity
from tests.export.graphs import noise
from tests.export.networks import ignore_keras_warnings, run_keras, unet

pytestmark = ignore_keras_warnings
TILES = [*noise(2, 8, 8)]


def test_largest_and_mean_difference_over_all_tiles() -> None:
    parity = measure_parity(
        lambda tile: tile.astype(np.float32), lambda tile: tile + np.float32(0.25), TILES
    )
    assert (parity.max_difference, parity.mean_difference, parity.tiles) == (0.25, 0.25, 2)


@pytest.mark.parametrize("error", [2e-4, np.nan], ids=str)
def test_difference_above_the_limit_is_refused(error: float) -> None:
    parity = measure_parity(np.zeros_like, lambda tile: np.full(tile.shape, error), TILES)
    with pytest.raises(ExportError, match="must agree with its source"):
        parity.check()


def test_no_tile_is_no_parity() -> None:
    with pytest.raises(ExportError, match="at least one tile"):
        measure_parity(np.zeros_like, np.zeros_like, [])


def test_keras_outputs_are_joined_and_picked() -> None:
    model = unet(head="two")
    found = keras_predict(model, [1, 3])(TILES[0])
    np.testing.assert_array_equal(found, run_keras(model, TILES[0][np.newaxis])[0][..., [1, 3]])
