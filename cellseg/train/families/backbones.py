"""Encoders from ``keras.applications``, with weights from nowhere, a file, or ImageNet."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellseg.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

__all__ = ["backbone"]


def backbone(make: Callable[..., keras.Model], weights: str, image: keras.KerasTensor) -> Any:
    """Build an encoder without its classifier on a given tensor.

    Parameters
    ----------
    make : callable
        Of ``keras.applications``.
    weights : str
        ``none``, ``imagenet`` or a path to a weights file (``.weights.h5``, ``.h5``).
    image : KerasTensor
        What it sees.

    Raises
    ------
    RecipeError
        If the weights are missing, cannot be fetched, or are of another network.
    """
    if weights == "none":
        return make(include_top=False, weights=None, input_tensor=image)
    if weights == "imagenet":
        return _from_imagenet(make, image)
    found = make(include_top=False, weights=None, input_tensor=image)
    _load(found, Path(weights))
    return found


def _from_imagenet(make: Callable[..., keras.Model], image: keras.KerasTensor) -> Any:
    if image.shape[-1] != 3:
        raise RecipeError(
            "weights 'imagenet' need images of 3 channels. "
            f"Received: input_channels={image.shape[-1]}."
        )
    try:
        return make(include_top=False, weights="imagenet", input_tensor=image)
    except Exception as error:  # what Keras raises depends on where the download fails
        raise RecipeError(
            f"weights 'imagenet' are fetched once from Keras' site. Received: {error}.",
            hint='Fetch the file elsewhere and name it: weights = "FILE.h5"; or weights = '
            '"none" starts at random.',
        ) from error


def _load(model: keras.Model, path: Path) -> None:
    if not path.is_file():
        raise RecipeError(
            f"weights must be none, imagenet or a file. Received: weights='{path}', no such file."
        )
    try:
        with warnings.catch_warnings():
            # Keras warns where it leaves a layer at random; that is not what was asked for.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(
            f"weights must be those of {model.name} without its classifier. "
            f"Received: {path}: {reason}"
        ) from error
