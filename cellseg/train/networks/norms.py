"""Statistics of norms whose own were folded away: measured before training goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cellseg.layers.folded import is_folded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["settle_norms"]


def settle_norms(model: keras.Model, images: Iterable[NDArray[np.float32]]) -> int:
    """Give BatchNorm layers that were folded the statistics of what they see.

    What the network computes stays the same; afterwards a batch in training, which is normalized by
    its own statistics, comes out as at inference, but for the chance of the batch.

    Parameters
    ----------
    model : keras.Model
        The network; its norms are changed.
    images : iterable of float32, shape (N, H, W, 3)
        Batches as training makes them, 0..255.

    Returns
    -------
    int
        Number of norms that were settled.
    """
    norms = [layer for layer in model.layers if is_folded(layer)]
    if not norms:
        return 0
    inside = keras.Model(model.inputs, [layer.input for layer in norms])
    sums = [np.zeros((2, *layer.beta.shape)) for layer in norms]
    count = np.zeros(len(norms))
    for batch in images:
        for index, seen in enumerate(inside.predict_on_batch(batch)):
            values = np.asarray(seen, np.float64).reshape(-1, seen.shape[-1])
            sums[index] += values.sum(0), np.square(values).sum(0)
            count[index] += len(values)
    for layer, (total, squares), n in zip(norms, sums, count, strict=True):
        mean = total / n
        variance = np.maximum(squares / n - np.square(mean), 0.0)
        _settle(layer, mean, variance)
    return len(norms)


def _settle(layer: Any, mean: NDArray[np.float64], variance: NDArray[np.float64]) -> None:
    """Split ``x + beta`` into a norm of these statistics, a gain that undoes it, and the rest."""
    beta = keras.ops.convert_to_numpy(layer.beta)
    layer.moving_mean.assign(mean.astype(np.float32))
    layer.moving_variance.assign(variance.astype(np.float32))
    layer.gamma.assign(np.sqrt(variance + layer.epsilon).astype(np.float32))
    layer.beta.assign((beta + mean).astype(np.float32))
