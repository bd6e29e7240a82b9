"""Whether the exported model computes what its source computes, on the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

__all__ = ["MAX_DIFFERENCE", "Parity", "keras_predict", "measure_parity"]

MAX_DIFFERENCE = 1e-4
"""Float32 sums in another order differ by about 1e-6; a wrong pad or axis by far more."""


@dataclass(frozen=True)
class Parity:
    """Difference between two models' outputs over some tiles."""

    max_difference: float
    """Largest absolute difference of an output."""

    mean_difference: float
    """Mean absolute difference."""

    tiles: int
    """Number of tiles compared."""

    def check(self, limit: float = MAX_DIFFERENCE) -> None:
        """Raise ExportError if the largest difference is above the limit."""
        if not self.max_difference <= limit:  # also refuses NaN
            raise ExportError(
                f"The exported model must agree with its source within {limit:g}. Received: "
                f"max_difference={self.max_difference:.3g} over {self.tiles} tiles."
            )


def measure_parity(
    reference: Predict, exported: Predict, tiles: Iterable[NDArray[np.uint8]]
) -> Parity:
    """Compare two models tile by tile.

    Parameters
    ----------
    reference, exported : callable
        uint8 (h, w, 3) to float32 (h, w, C).
    tiles : iterable of uint8, shape (h, w, 3)
        Real tiles; at least one.

    Raises
    ------
    ExportError
        If there is no tile.
    """
    largest, means = [], []
    for tile in tiles:
        difference = np.abs(reference(tile) - exported(tile))
        largest.append(float(difference.max()))
        means.append(float(difference.mean()))
    if not largest:
        raise ExportError("Parity needs at least one tile. Received: none.")
    return Parity(float(np.max(largest)), float(np.mean(means)), len(largest))


def keras_predict(model: Any, channels: Sequence[int]) -> Predict:
    """Wrap a Keras model as a function of one uint8 tile.

    Parameters
    ----------
    model : keras.Model
        Takes float32 (N, H, W, 3), 0..255.
    channels : sequence of int
        Output channels to keep, counted through all outputs.
    """
    from keras import ops

    def predict(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = model(tile[np.newaxis].astype(np.float32), training=False)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        joined = np.concatenate([ops.convert_to_numpy(output)[0] for output in outputs], axis=-1)
        return np.asarray(joined[..., list(channels)], np.float32)

    return predict
