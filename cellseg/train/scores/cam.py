"""Seg-Grad-CAM: which parts of an image made a network say a class.

The gradient of a class' summed scores, taken at the coarsest feature map and averaged over space,
weighs that map's channels; what is positive in the weighted sum is the heat. TensorFlow and torch
can take that gradient in the middle of a network; JAX cannot, and is told so.

References
----------
.. [1] Vinogradova, Dibrov, Myers, "Towards interpretable semantic segmentation via
   gradient-weighted class activation mapping", AAAI 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import keras
import numpy as np
from keras import layers

from cellseg.errors import DataError
from cellseg.runtime.view.fit import bring_to
from cellseg.train.images.cell_crops import padded_to
from cellseg.train.images.pairs import IMAGE_SUFFIXES
from cellseg.train.images.stock import prepare_image
from cellseg.train.networks.predict import KerasPredictor
from cellseg.train.scores.truth import labelled_images

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.networks.predict import Predictor
    from cellseg.train.progress import Progress
    from cellseg.train.sections import Recipe

__all__ = ["coarsest_layer", "require_cam", "seg_grad_cam", "write_cams"]


def seg_grad_cam(
    model: keras.Model, image: NDArray[np.uint8], channel: int, layer: str | None = None
) -> NDArray[np.float32]:
    """Heat of one output channel over an image.

    Parameters
    ----------
    model : keras.Model
        Functional, probabilities (N, H, W, C) out.
    image : uint8, shape (H, W, 3)
        Prepared, sides multiples of the network's stride.
    channel : int
        Output channel.
    layer : str, optional
        Layer whose output is weighed; by default the coarsest convolution, the last of several.

    Returns
    -------
    float32, shape (H, W)
        0..1; all 0 where nothing speaks for the class.

    Raises
    ------
    DataError
        If the backend cannot take the gradient.
    """
    chosen = model.get_layer(layer) if layer else coarsest_layer(model)
    both = keras.Model(model.inputs[0], [chosen.output, model.outputs[0]])
    features, gradient = _gradient(both, image[None].astype(np.float32), channel)
    weights = gradient.mean((0, 1))
    heat = np.maximum(features @ weights, 0)
    heat = cv2.resize(heat, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(heat / max(float(heat.max()), 1e-12), np.float32)


def coarsest_layer(model: keras.Model) -> keras.Layer:
    """Last convolution at the lowest resolution: the one with the most poolings before it.

    Raises
    ------
    DataError
        If the model has no convolution.
    """
    depth: dict[int, float] = {}
    best, deepest = None, -1.0
    for layer in model.layers:
        incoming = layer.input if isinstance(layer.input, list) else [layer.input]
        before = max((depth.get(id(tensor), 0.0) for tensor in incoming), default=0.0)
        depth[id(layer.output)] = before + _halvings(layer)
        if isinstance(layer, layers.Conv2D) and depth[id(layer.output)] >= deepest:
            best, deepest = layer, depth[id(layer.output)]
    if best is None:
        raise DataError("a class activation map needs a convolution. Received: a model with none.")
    return best


def _halvings(layer: keras.Layer) -> float:
    if isinstance(layer, (layers.Conv2DTranspose, layers.UpSampling2D)):
        return -1.0
    strides = getattr(layer, "strides", (1,))
    return float(np.log2(strides[0] if isinstance(strides, tuple) else strides))


def _gradient(
    both: keras.Model, batch: NDArray[np.float32], channel: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (h, w, F) and the gradient of the channel's sum over its found pixels at them."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            features, found = both(batch, training=False)
            score = _score(found[..., channel])
        gradient = tape.gradient(score, features)
    elif backend == "torch":
        import torch

        features, found = both(batch, training=False)
        (gradient,) = torch.autograd.grad(_score(found[..., channel]), features)
    else:
        raise _no_gradient(backend)
    to_numpy = keras.ops.convert_to_numpy
    return np.asarray(to_numpy(features)[0]), np.asarray(to_numpy(gradient)[0])


def _no_gradient(backend: str) -> DataError:
    return DataError(
        f"class activation maps need TensorFlow or torch. Received: KERAS_BACKEND={backend}.",
        hint="KERAS_BACKEND=tensorflow cellseg-cli evaluate ... --cam",
    )


def _score(found: Any) -> Any:
    """Sum over the pixels that were found, or over all if none was."""
    mask = keras.ops.cast(found >= 0.5, "float32")
    mask = keras.ops.where(keras.ops.sum(mask) > 0, mask, keras.ops.ones_like(mask))
    return keras.ops.sum(found * keras.ops.stop_gradient(mask))


def require_cam(predictor: Predictor) -> KerasPredictor:
    """Return what class activation maps can be had of, before anything is scored.

    Raises
    ------
    DataError
        If it is no Keras model, or the backend cannot take a gradient in the middle of one.
    """
    if not isinstance(predictor, KerasPredictor):
        raise DataError(
            f"class activation maps need a Keras model. Received: {predictor.name}, a bundle.",
            hint="name the run's folder with --model.",
        )
    if (backend := keras.backend.backend()) not in ("tensorflow", "torch"):
        raise _no_gradient(backend)
    return predictor


def write_cams(
    recipe: Recipe,
    root: Path,
    split: str,
    predictor: Predictor,
    folder: Path,
    progress: Progress | None = None,
    limit: int = 12,
) -> None:
    """Write, for the first images of a split, image and heat of each foreground class side by side.

    Several sources have a folder each: names of theirs may be alike.

    Raises
    ------
    DataError
        As `require_cam`.
    """
    model = require_cam(predictor).model
    several = len(recipe.sources) > 1
    is_binary = model.outputs[0].shape[-1] == 1
    names = [item.name for item in recipe.class_list[1:]]
    for done, (of, truth) in enumerate(labelled_images(recipe, root, split), 1):
        image = _as_trained(truth.image, recipe)
        height, width = image.shape[:2]
        padded = padded_to(image, recipe.model.stride)
        channels = [0] if is_binary else range(1, len(names) + 1)
        heats = [seg_grad_cam(model, padded, c)[:height, :width] for c in channels]
        panels = [image, *(_painted(image, heat) for heat in heats)]
        place = folder / truth.source if several else folder
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{_stem(truth.name)}.png"), np.hstack(panels)[..., ::-1])
        if progress is not None:
            progress("class activation", done, min(of, limit))
        if done == limit:
            break


def _stem(name: str) -> str:
    """Name without the suffix of an image; ``slide.2``, which has none, is whole."""
    stem, _, suffix = name.rpartition(".")
    return stem if f".{suffix.lower()}" in IMAGE_SUFFIXES else name


def _painted(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    colors = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return np.asarray(cv2.addWeighted(image, 0.55, np.ascontiguousarray(colors), 0.45, 0))


def _as_trained(image: NDArray[Any], recipe: Recipe) -> NDArray[np.uint8]:
    """Prepare an image; one at its own scale that is larger than an input is made smaller too."""
    prepared = prepare_image(image, recipe.normalize)
    width, height = recipe.input.size_px
    is_larger = prepared.shape[0] > height or prepared.shape[1] > width
    if recipe.fit_hw is None and not is_larger:
        return prepared
    return bring_to(prepared, (height, width))
