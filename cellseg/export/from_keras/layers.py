"""How each Keras layer reads in ONNX: one function a layer type, one table.

Keras is NHWC and pads "same" at run time, at the bottom and right first; ONNX is NCHW with fixed
pads. Heights and widths are multiples of the model's stride (the bundle demands it), so a layer of
kernel k and stride s always needs ``max(k - s, 0)`` rows in all, of which Keras puts the smaller
half on top: a 3x3 layer of stride 2 pads 0 above and 1 below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import ExportError
from cellseg.export.from_keras.colors import color_space, gamma_layer
from cellseg.export.from_keras.common import (
    BY_ONNX,
    activate,
    array,
    at_most,
    by_channel,
    named,
    refused,
    require_channel_axis,
)
from cellseg.export.from_keras.norms import (
    batch_norm,
    global_average_pool,
    group_norm,
    layer_norm,
    normalization,
)
from cellseg.export.from_keras.window_attention import window_attention
from cellseg.layers.whole_tile import sees_whole_tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.export.onnx_graph.builder import GraphBuilder

__all__ = ["convert_layer"]

Converter = Callable[["GraphBuilder", Any, list[str]], str]


def convert_layer(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Add one Keras layer to the graph; returns the name of its output.

    Raises
    ------
    ExportError
        If the layer, or one of its settings, has no counterpart here.
    """
    kind = type(layer).__name__
    if sees_whole_tile(layer) and not builder.whole_tile:
        hint = "Use BatchNormalization, whose statistics are fixed after training"
        groups = getattr(layer, "groups", -1)
        if groups == -1 or groups == layer.input.shape[-1]:  # norms of several have no counterpart
            hint += "; or allow a difference, which is then measured and stored: "
            hint += "--halo-tolerance 0.05"
        raise ExportError(
            "A layer must not look at the whole tile: it makes seams that no halo mends. "
            f"Received: {named(layer)}.",
            hint=f"{hint}.",
        )
    converter = _CONVERTERS.get(kind)
    if converter is None:
        raise ExportError(
            f"Every layer must be one of {', '.join(sorted(_CONVERTERS))}. "
            f"Received: {named(layer)}.",
            hint=f"Others may go by way of ONNX: {BY_ONNX}",
        )
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise refused(layer, "data_format", "'channels_last'")
    _require_finite(layer)
    return converter(builder, layer, inputs)


def _require_finite(layer: Any) -> None:
    for weight in getattr(layer, "weights", ()):  # x + y is an operation, without any
        if not np.isfinite(array(weight)).all():
            raise ExportError(
                "Weights must be finite. "
                f"Received: NaN or infinity in {weight.name!r} of {named(layer)}.",
                hint="Its training went astray: take weights of an earlier epoch, or train with a "
                "lower learning rate.",
            )


def _conv(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    kernel = array(layer.kernel).transpose(3, 2, 0, 1)  # (kh, kw, in, out) -> (out, in, kh, kw)
    return _conv_node(builder, layer, inputs, kernel, group=int(layer.groups))


def _depthwise_conv(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    kernel = array(layer.kernel)  # (kh, kw, in, multiplier)
    height, width, channels, _ = kernel.shape
    kernel = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, height, width)
    return _conv_node(builder, layer, inputs, kernel, group=channels)


def _separable_conv(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Depthwise, then 1x1; bias and activation belong to the second."""
    kernel = array(layer.depthwise_kernel)  # (kh, kw, in, multiplier)
    height, width, channels, _ = kernel.shape
    depthwise = builder.node(
        "Conv",
        [
            *inputs,
            builder.constant(
                kernel.transpose(2, 3, 0, 1).reshape(-1, 1, height, width),
                f"{layer.name}/depthwise_kernel",
            ),
        ],
        f"{layer.name}/depthwise",
        kernel_shape=[height, width],
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        pads=_pads(builder, layer, inputs, (height, width), layer.dilation_rate),
        group=channels,
    )
    pointwise = array(layer.pointwise_kernel).transpose(3, 2, 0, 1)
    operands = [depthwise, builder.constant(pointwise, f"{layer.name}/pointwise_kernel")]
    operands += _bias(builder, layer)
    return activate(builder, layer, builder.node("Conv", operands, layer.name, kernel_shape=[1, 1]))


def _conv_node(
    builder: GraphBuilder, layer: Any, inputs: list[str], kernel: NDArray[np.float32], group: int
) -> str:
    operands = [*inputs, builder.constant(kernel, f"{layer.name}/kernel"), *_bias(builder, layer)]
    output = builder.node(
        "Conv",
        operands,
        layer.name,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        pads=_pads(builder, layer, inputs, layer.kernel_size, layer.dilation_rate),
        group=group,
    )
    return activate(builder, layer, output)


def _conv_transpose(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    kernel = array(layer.kernel).transpose(3, 2, 0, 1)  # (kh, kw, out, in) -> (in, out, kh, kw)
    if tuple(layer.dilation_rate) != (1, 1):
        raise refused(layer, "dilation_rate", "1")
    if layer.output_padding is not None:
        raise refused(layer, "output_padding", "None")
    if any(k < s for k, s in zip(layer.kernel_size, layer.strides, strict=True)):
        raise refused(layer, "kernel_size", "at least strides")
    operands = [*inputs, builder.constant(kernel, f"{layer.name}/kernel"), *_bias(builder, layer)]
    output = builder.node(
        "ConvTranspose",
        operands,
        layer.name,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        pads=_pads(builder, layer, inputs, layer.kernel_size),
    )
    return activate(builder, layer, output)


def _max_pool(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    return _pool_node(builder, layer, inputs, "MaxPool")


def _average_pool(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    # Keras leaves padding out of the mean.
    return _pool_node(builder, layer, inputs, "AveragePool", count_include_pad=0)


def _pool_node(
    builder: GraphBuilder, layer: Any, inputs: list[str], op: str, **attributes: Any
) -> str:
    return builder.node(
        op,
        inputs,
        layer.name,
        kernel_shape=list(layer.pool_size),
        strides=list(layer.strides),
        pads=_pads(builder, layer, inputs, layer.pool_size),
        **attributes,
    )


def _upsample(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    modes = {
        "nearest": {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        },
        "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    }
    if layer.interpolation not in modes:
        raise refused(layer, "interpolation", "'nearest' or 'bilinear'")
    scales = np.array([1, 1, *layer.size], np.float32)
    operands = [*inputs, "", builder.constant(scales, f"{layer.name}/scales")]
    return builder.node("Resize", operands, layer.name, **modes[layer.interpolation])


def _concatenate(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    require_channel_axis(layer)
    return builder.node("Concat", inputs, layer.name, axis=1)


def _elementwise(op: str) -> Converter:
    def convert(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
        if len(inputs) < 2:  # what else it takes is no tensor of the graph
            raise ExportError(
                f"All operands must be maps. Received: {named(layer)} of one map and a constant.",
                hint="Write it as a layer: Rescaling for a factor or an offset, ReLU for a bound.",
            )
        output = inputs[0]
        for other in inputs[1:]:
            output = builder.node(op, [output, other], layer.name)
        return output

    return convert


def _average(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    total = _elementwise("Add")(builder, layer, inputs)
    share = np.array(1 / len(inputs), np.float32)
    operands = [total, builder.constant(share, f"{layer.name}/share")]
    return builder.node("Mul", operands, f"{layer.name}/mean")


def _rescaling(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    (output,) = inputs
    for op, value, neutral in (("Mul", layer.scale, 1.0), ("Add", layer.offset, 0.0)):
        factor = np.asarray(value, np.float32).reshape(-1, 1, 1)
        if (factor != neutral).any():
            key = f"{layer.name}/{op.lower()}"
            output = builder.node(op, [output, builder.constant(factor, f"{key}/by")], key)
    return output


def _activation_layer(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    return activate(builder, layer, inputs[0])


def _relu(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    if layer.threshold != 0:
        raise refused(layer, "threshold", "0")
    if layer.negative_slope != 0:
        if layer.max_value is not None:
            raise refused(layer, "max_value", "None beside a negative_slope")
        return _leaky_relu(builder, layer, inputs)
    output = builder.node("Relu", inputs, layer.name)
    return output if layer.max_value is None else at_most(builder, output, layer.max_value)


def _leaky_relu(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    return builder.node("LeakyRelu", inputs, layer.name, alpha=float(layer.negative_slope))


def _elu(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    return builder.node("Elu", inputs, layer.name, alpha=float(layer.alpha))


def _prelu(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    slopes = array(layer.alpha)
    if slopes.shape[:2] != (1, 1):
        raise refused(layer, "shared_axes", "[1, 2], so that any size of image fits")
    operands = [*inputs, builder.constant(by_channel(slopes), f"{layer.name}/slopes")]
    return builder.node("PRelu", operands, layer.name)


def _softmax(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    require_channel_axis(layer)
    return builder.node("Softmax", inputs, layer.name, axis=1)


def _zero_padding(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    (top, bottom), (left, right) = layer.padding
    sizes = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    output = builder.node(
        "Pad", [*inputs, builder.constant(sizes, f"{layer.name}/pads")], layer.name
    )
    builder.padding[output] = (top + bottom, left + right)
    return output


def _reshape(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Give a mean over the tile, which is kept as a map of one pixel here, its two axes back."""
    if tuple(layer.target_shape[:-1]) != (1, 1):
        raise refused(layer, "target_shape", "(1, 1, channels)")
    return inputs[0]


def _identity(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    return inputs[0]


_IDLE = (  # after training
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise",
    "Identity", "RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation",
    "RandomTranslation", "RandomZoom", "SpatialDropout2D",
)  # fmt: skip
_CONVERTERS: dict[str, Converter] = {
    "Activation": _activation_layer,
    "Add": _elementwise("Add"),
    "Average": _average,
    "AveragePooling2D": _average_pool,
    "BatchNormalization": batch_norm,
    "ColorSpace": color_space,
    "Concatenate": _concatenate,
    "Conv2D": _conv,
    "Conv2DTranspose": _conv_transpose,
    "DepthwiseConv2D": _depthwise_conv,
    "ELU": _elu,
    "GammaCurve": gamma_layer,
    "GlobalAveragePooling2D": global_average_pool,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "LeakyReLU": _leaky_relu,
    "MaxPooling2D": _max_pool,
    "Maximum": _elementwise("Max"),
    "Minimum": _elementwise("Min"),
    "Multiply": _elementwise("Mul"),
    "Normalization": normalization,
    "PReLU": _prelu,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "SeparableConv2D": _separable_conv,
    "Softmax": _softmax,
    "Subtract": _elementwise("Sub"),
    "UpSampling2D": _upsample,
    "WindowAttention": window_attention,
    "ZeroPadding2D": _zero_padding,
    **dict.fromkeys(_IDLE, _identity),
}


def _pads(
    builder: GraphBuilder,
    layer: Any,
    inputs: list[str],
    kernel: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> list[int]:
    """Rows and columns of padding as ONNX lists them: top, left, bottom, right."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    total = [max(span - s, 0) for span, s in zip(spans, layer.strides, strict=True)]
    if layer.padding == "valid" and any(total):
        given = builder.padding.get(inputs[0], (0, 0))
        # A layer of stride s leaves up to s - 1 rows of padding over.
        if all(t <= g < t + s for t, g, s in zip(total, given, layer.strides, strict=True)):
            return [0, 0, 0, 0]
        raise refused(layer, "padding", "'same', so that output and input fit")
    before = [size // 2 for size in total]
    return [*before, *(size - first for size, first in zip(total, before, strict=True))]


def _bias(builder: GraphBuilder, layer: Any) -> list[str]:
    if not layer.use_bias:
        return []
    return [builder.constant(array(layer.bias), f"{layer.name}/bias")]
