"""Small Keras networks with random weights and statistics, shaped like those that are trained."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

# Keras hands its variables to NumPy 2 in the old way; nothing here can mend that.
ignore_keras_warnings = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)


def unet(
    base: int = 4,
    levels: int = 2,
    stem: bool = True,
    head: str = "softmax",
    up: str = "transpose",
    scale: Any = 1 / 255,
    offset: Any = 0.0,
    seed: int = 0,
) -> keras.Model:
    """Conv-BN-relu UNet. head: softmax, distance (one output more), two (outputs)."""
    keras.utils.set_random_seed(seed)
    image = layers.Input((None, None, 3))
    x = layers.Rescaling(scale, offset)(image)
    if stem:
        x = _block(x, base, strides=2)
    skips = []
    for level in range(levels):
        x = _block(_block(x, base * 2**level), base * 2**level)
        if level < levels - 1:
            skips.append(x)
            x = layers.MaxPooling2D(2)(x)
    for level in reversed(range(levels - 1)):
        x = layers.Concatenate()([_upsample(x, base * 2**level, up), skips[level]])
        x = _block(layers.Dropout(0.2)(x), base * 2**level)
    if stem:
        x = layers.Conv2DTranspose(8, 2, 2, padding="same", activation="relu")(x)
    return randomized(keras.Model(image, _head(x, head)), seed)


def single(*stack: Any) -> keras.Model:
    """Layers one after the other, on an RGB image of any size."""
    image = x = layers.Input((None, None, 3))
    for layer in stack:
        x = layer(x)
    return randomized(keras.Model(image, x))


def randomized(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give every bias and statistic a value that matters."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.moving_mean.shape
            spread = [rng.uniform(0.5, 1.5, shape), rng.normal(0, 0.3, shape)]
            spread = spread if layer.scale else []
            layer.set_weights([*spread, rng.normal(0, 0.2, shape), rng.uniform(0.3, 2, shape)])
        elif getattr(layer, "use_bias", False):
            *kernels, bias = layer.get_weights()
            layer.set_weights([*kernels, rng.normal(0, 0.1, bias.shape)])
    return model


def run_keras(model: keras.Model, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Run a model on uint8 images (N, H, W, 3); outputs are joined along the channels."""
    outputs = model(images.astype(np.float32), training=False)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return np.concatenate([keras.ops.convert_to_numpy(output) for output in outputs], -1)


def _block(x: Any, filters: int, strides: int = 1) -> Any:
    x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
    return layers.Activation("relu")(layers.BatchNormalization()(x))


def _upsample(x: Any, filters: int, up: str) -> Any:
    if up == "transpose":
        return layers.Conv2DTranspose(filters, 2, 2, padding="same")(x)
    return layers.UpSampling2D(2, interpolation=up)(x)


def _head(x: Any, head: str) -> Any:
    classes = layers.Conv2D(3, 1, activation="softmax")(x)
    if head == "softmax":
        return classes
    distance = layers.Conv2D(1, 1, activation="sigmoid")(x)
    return [classes, distance] if head == "two" else layers.Concatenate()([classes, distance])
