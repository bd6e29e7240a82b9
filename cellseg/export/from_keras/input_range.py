"""What a lone Keras model is fed, and where it ends.

A ``.keras`` file does not say what values its network was trained on. One that scales inside takes
bytes as they are; one that does not was trained on something, which only its user knows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["fed", "output_layer"]

_LOG = logging.getLogger(__name__)
_SCALERS = ("Rescaling", "Normalization")


def fed(model: Any, name: str, scale: Sequence[float] | None, offset: Sequence[float]) -> Any:
    """Return the model with ``scale * byte + offset`` in front, where that was asked for.

    Parameters
    ----------
    model : keras.Model
        One image in.
    name : str
        Of its file.
    scale, offset : sequence of float
        One number, or one a channel; ``scale`` None: not asked for. A model without a layer that
        scales is then warned of.
    """
    import keras

    if scale is None and not any(offset):
        if not any(type(layer).__name__ in _SCALERS for layer in _layers(model)):
            _LOG.warning(
                "%s has no Rescaling or Normalization: it is fed bytes as they are, 0 .. 255; if "
                "it was trained on other values, say --input-scale and --input-offset", name,
            )  # fmt: skip
        return model
    image = keras.Input(model.input_shape[1:])
    scaled = keras.layers.Rescaling(_plain(scale or (1.0,)), _plain(offset))(image)
    return keras.Model(image, model(scaled))


def output_layer(model: Any) -> Any:
    """Return the layer that computes a model's (first) output, also of a model inside it."""
    functional = getattr(model, "_functional", None) or model
    outputs = getattr(functional, "outputs", None)
    if not outputs:
        return model.layers[-1]
    layer = outputs[0]._keras_history.operation
    return output_layer(layer) if hasattr(layer, "layers") else layer


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def _plain(numbers: Sequence[float]) -> float | list[float]:
    return numbers[0] if len(numbers) == 1 else [*numbers]
