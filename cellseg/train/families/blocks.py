"""What the families share: the input's range, activations, normalization, the head.

Layers only, none of them a Lambda; a saved model needs nothing but Keras and the registered layers
of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import layers

if TYPE_CHECKING:
    import keras

    from cellseg.train.families.params import FamilyParams

__all__ = ["activated", "conv_bn_relu", "head_of", "image_input", "normalized", "scaled"]


def image_input(channels: int) -> keras.KerasTensor:
    """Image (N, H, W, channels), 0..255."""
    return layers.Input((None, None, channels), name="image")


def scaled(image: keras.KerasTensor, params: FamilyParams) -> keras.KerasTensor:
    """Bring 0..255 to the range that the family computes on."""
    if params.input_range == "0..1":
        return layers.Rescaling(1 / 255, name="scale")(image)
    if params.input_range == "-1..1":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)
    return image


def activated(x: Any, activation: str, name: str, negative_slope: float = 0.1) -> Any:
    """Apply an activation by name."""
    if activation == "leaky_relu":
        return layers.LeakyReLU(negative_slope=negative_slope, name=name)(x)
    return layers.Activation(activation, name=name)(x)


def normalized(x: Any, kind: str, name: str) -> Any:
    """Apply a normalization: none, batch, layer (over a pixel's channels) or instance."""
    if kind == "batch":
        return layers.BatchNormalization(momentum=0.98, name=name)(x)
    if kind == "layer":
        return layers.LayerNormalization(epsilon=1e-5, name=name)(x)
    if kind == "instance":
        return layers.GroupNormalization(groups=-1, epsilon=1e-5, name=name)(x)
    return x


def conv_bn_relu(x: Any, filters: int, kernel: int, name: str, **options: Any) -> Any:
    """Convolution without activation, BatchNorm, ReLU."""
    x = layers.Conv2D(
        filters,
        kernel,
        padding="same",
        kernel_initializer="he_normal",
        name=f"{name}_conv",
        **options,
    )(x)
    x = layers.BatchNormalization(momentum=0.98, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def head_of(x: Any, classes: int, head: str, kernel: int = 1) -> keras.KerasTensor:
    """End in probabilities (N, H, W, C), float32 whatever the policy of mixed precision.

    ``softmax+distance`` adds one sigmoid channel, the distance to the border.
    """
    activation = "sigmoid" if head == "sigmoid" else "softmax"
    options = {"padding": "same", "dtype": "float32"}
    found = layers.Conv2D(classes, kernel, activation=activation, name="classes", **options)(x)
    if head != "softmax+distance":
        return found
    distance = layers.Conv2D(1, kernel, activation="sigmoid", name="distance", **options)(x)
    return layers.Concatenate(dtype="float32", name="probabilities")([found, distance])
