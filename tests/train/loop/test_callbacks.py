"""What happens between steps: the running mean of the weights."""

from __future__ import annotations

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.train.loop.callbacks import MeanWeights  # noqa: E402
from cellseg.train.loop.run_state import RunState  # noqa: E402
from tests.train.small_families import SMALL, small  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def averaging(model: keras.Model) -> tuple[MeanWeights, RunState]:
    state = RunState()
    callback = MeanWeights(0.5, state, steps_before=100)
    callback.set_model(model)
    return callback, state


def test_counts_are_taken_as_they_are_and_weights_averaged() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Normalization()])
    callback, state = averaging(model)
    model.set_weights([np.ones(2), np.ones(2), np.int32(1)])
    callback.on_train_batch_end(0)
    model.set_weights([np.full(2, 3.0), np.ones(2), np.int32(4)])
    callback.on_train_batch_end(1)
    mean, _, count = state.mean_weights
    np.testing.assert_array_equal(mean, [2, 2])
    assert count == 4


@pytest.mark.parametrize("name", SMALL)
def test_the_weights_of_every_family_have_a_mean(name: str) -> None:
    model = small(name)
    callback, state = averaging(model)
    for step in range(2):
        callback.on_train_batch_end(step)
    for mean, weight in zip(state.mean_weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(mean, weight, rtol=1e-6)  # of two steps that changed nothing
    model.set_weights(state.mean_weights)
