"""A model that was trained in mixed precision, computing in float32 again."""

from __future__ import annotations

from typing import Any

__all__ = ["in_full_precision"]


def in_full_precision(model: Any) -> Any:
    """Return the model itself, or a copy in float32 where a layer computes in less.

    Parameters
    ----------
    model : keras.Model
        Its weights are float32 whatever its policy.
    """
    import keras

    if all(_computes_in(layer) == "float32" for layer in model.layers):
        return model

    def full(layer: Any) -> Any:
        config = layer.get_config()
        return type(layer).from_config({**config, "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=full)
    copy.set_weights(model.get_weights())
    return copy


def _computes_in(layer: Any) -> str:
    policy = getattr(layer, "dtype_policy", None)
    return str(getattr(policy, "compute_dtype", "float32"))
