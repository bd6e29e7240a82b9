"""BatchNorm that does nothing but add: what is left of one that was folded into its convolution.

At inference such a layer is as good as the one that was folded. In training it is not: it would
divide by the spread of a batch, which the folded weights have in them already. So its statistics
are measured before training goes on (`cellseg.train.networks.norms`).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

__all__ = ["is_folded", "is_norm", "set_folded"]


def is_norm(layer: Any) -> bool:
    """Whether a layer is a BatchNorm with a scale and an offset."""
    return isinstance(layer, keras.layers.BatchNormalization) and layer.scale and layer.center


def set_folded(layer: Any) -> None:
    """Make a BatchNorm add its offset, ``beta``, and do nothing else."""
    zeros, ones = np.zeros(layer.beta.shape, np.float32), np.ones(layer.beta.shape, np.float32)
    layer.gamma.assign(ones)
    layer.moving_mean.assign(zeros)
    layer.moving_variance.assign(_unit_variance(layer) * ones)


def is_folded(layer: Any) -> bool:
    """Whether a layer is a BatchNorm as `set_folded` leaves it; a new one is not."""
    if not is_norm(layer):
        return False
    gamma, mean, variance = (
        keras.ops.convert_to_numpy(value)
        for value in (layer.gamma, layer.moving_mean, layer.moving_variance)
    )
    return bool(
        np.all(gamma == 1.0) and np.all(mean == 0.0) and np.all(variance == _unit_variance(layer))
    )


def _unit_variance(layer: Any) -> np.float32:
    return np.float32(1.0 - layer.epsilon)
