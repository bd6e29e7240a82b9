"""How each ONNX operator of our graphs reads in TensorFlow: one function an operator, one table.

ONNX is NCHW with fixed pads, TensorFlow is NHWC and pads "same" at run time. Heights and widths are
multiples of the stride, so the two agree wherever Keras' own rule made the pads; other pads become
an operator of their own. Nothing here asks for the size of an image: a shape that is computed while
the network runs would keep LiteRT from planning its memory, and its fast kernels from being used.
What makes images larger is therefore a convolution and `depth_to_space`, which is exact::

    ConvTranspose  each of the s x s output pixels of a block has a small kernel of its own
    Resize         the same with fixed weights: copies (nearest), or neighbours mixed (linear)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute
from cellseg.export.targets.tflite_norms import NORM_CONVERTERS
from cellseg.export.targets.tflite_windows import WINDOW_CONVERTERS, WINDOW_RANK

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["convert_node"]

Value = Any  # a tf.Tensor, NHWC, or a constant as ONNX has it
Converter = Callable[["onnx.NodeProto", Sequence[Value]], Value]

_TO_NHWC = [0, 2, 3, 1]


def convert_node(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """Compute one node in TensorFlow.

    Parameters
    ----------
    node : onnx.NodeProto
        Of a float graph of our exporter.
    inputs : sequence of tf.Tensor or ndarray or None
        Its operands: images NHWC, constants as they are in ONNX, None where one is left out.

    Raises
    ------
    ExportError
        If the operator, or one of its settings, has no counterpart here.
    """
    converter = _CONVERTERS.get(node.op_type)
    if converter is None:
        raise ExportError(
            f"For TFLite every operator must be one of {', '.join(sorted(_CONVERTERS))}. "
            f"Received: {node.name!r} ({node.op_type}).",
            hint="Leave tflite out of --target, or spell that layer out in these.",
        )
    return converter(node, inputs)


def _conv(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    image, weights = inputs[0], inputs[1]
    group, (height, width) = attribute(node, "group", 1), weights.shape[2:]
    strides = attribute(node, "strides", [1, 1])
    dilations = attribute(node, "dilations", [1, 1])
    image, padding = _padded(node, image, [height, width])
    if group > 1 and weights.shape[1] == 1:
        kernel = weights.reshape(group, -1, height, width).transpose(2, 3, 0, 1)
        result = tf.nn.depthwise_conv2d(
            image, kernel, [1, *strides, 1], padding, dilations=dilations
        )
    else:
        # TensorFlow reads the number of groups off the kernel's input channels.
        kernel = weights.transpose(2, 3, 1, 0)
        result = tf.nn.conv2d(image, kernel, strides, padding, dilations=dilations)
    return result if len(inputs) < 3 else tf.nn.bias_add(result, inputs[2])


def _conv_transpose(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """Compute the blocks by a convolution: see `_block_kernel`."""
    import tensorflow as tf

    image, weights = inputs[0], inputs[1]
    strides, pads = attribute(node, "strides", [1, 1]), attribute(node, "pads", [0, 0, 0, 0])
    plain = attribute(node, "group", 1) == 1 and set(attribute(node, "dilations", [1])) == {1}
    fits = [
        k - s == a + b
        for k, s, a, b in zip(weights.shape[2:], strides, pads, pads[2:], strict=False)
    ]
    if not plain or len(set(strides)) != 1 or not all(fits):
        raise _refused(node, "equal strides, no groups, no dilation, pads of k - s in all")
    size = strides[0]
    kernel, before = _block_kernel(weights, size, pads[:2])
    after = [k - 1 - b for k, b in zip(kernel.shape, before, strict=False)]
    if any(before) or any(after):
        image = tf.pad(
            image, [[0, 0], *([b, a] for b, a in zip(before, after, strict=True)), [0, 0]]
        )
    blocks = tf.nn.conv2d(image, kernel, 1, "VALID")
    if len(inputs) > 2:
        blocks = tf.nn.bias_add(blocks, np.tile(inputs[2], size * size))
    return blocks if size == 1 else tf.nn.depth_to_space(blocks, size)


def _block_kernel(
    weights: NDArray[np.float32], size: int, pads: Sequence[int]
) -> tuple[NDArray[np.float32], list[int]]:
    """Kernel whose output channels are the pixels of a block, and how far it reaches back.

    Output row ``size * q + r`` of a transposed convolution sums ``weights[k] * input[q + o]`` over
    all k = r + pad - size * o.
    """
    spans = [
        range(-((k - 1 - p) // size), (size - 1 + p) // size + 1)
        for k, p in zip(weights.shape[2:], pads, strict=True)
    ]
    rows, columns = spans
    channels_in, channels = weights.shape[:2]
    kernel = np.zeros((len(rows), len(columns), channels_in, size, size, channels), np.float32)
    for y, x in np.ndindex(len(rows), len(columns)):
        for i, j in np.ndindex(size, size):
            k = (i + pads[0] - size * rows[y], j + pads[1] - size * columns[x])
            if all(0 <= at < extent for at, extent in zip(k, weights.shape[2:], strict=True)):
                kernel[y, x, :, i, j] = weights[:, :, k[0], k[1]]
    # depth_to_space reads channel (i * s + j) * C + c for pixel (i, j) of the block.
    return kernel.reshape(*kernel.shape[:3], -1), [-rows[0], -columns[0]]


def _pool(kind: str) -> Converter:
    def convert(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
        import tensorflow as tf

        kernel, strides = attribute(node, "kernel_shape"), attribute(node, "strides", [1, 1])
        pads = attribute(node, "pads", [0] * 4)
        spans_alike = _same_pads(kernel, strides, [1, 1]) == pads
        counts_pads = kind == "AVG" and attribute(node, "count_include_pad", 0)
        if not (spans_alike or not any(pads)) or counts_pads or attribute(node, "ceil_mode", 0):
            rule = "no pads, or those of 'same', which do not count; or a Relu before it"
            raise _refused(node, rule)
        return tf.nn.pool(inputs[0], kernel, kind, strides, "SAME" if spans_alike else "VALID")

    return convert


def _resize(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    image, scales = inputs[0], inputs[2]
    size = 0 if scales is None else round(float(scales[2]))
    if size < 1 or list(scales) != [1, 1, size, size]:
        raise _refused(node, "a whole factor, the same for height and width")
    mode = attribute(node, "mode", b"nearest")
    places = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    is_centred = places in (b"half_pixel", b"pytorch_half_pixel")  # one for whole factors
    if mode == b"nearest" and _copies_pixels(node, is_centred, size):
        copies = tf.concat([image] * (size * size), -1)
        return tf.nn.depth_to_space(copies, size)
    if mode == b"linear" and is_centred:
        return _resize_linear(image, size)
    raise _refused(node, "copies of each pixel ('nearest'), or 'linear' and 'half_pixel'")


def _copies_pixels(node: onnx.NodeProto, is_centred: bool, size: int) -> bool:
    """Say whether rounding takes the pixel that lies under a finer one."""
    rounding = attribute(node, "nearest_mode", b"round_prefer_floor")
    if is_centred:
        return rounding in (b"round_prefer_floor", b"round_prefer_ceil")
    places = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    is_floor = rounding == b"floor" or (rounding == b"round_prefer_floor" and size == 2)
    return bool(places == b"asymmetric" and is_floor)


def _resize_linear(image: Value, size: int) -> Value:
    """Mix each pixel with its neighbours, once for every pixel of a block."""
    import tensorflow as tf

    channels = image.shape[-1]
    around = tf.pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")  # the border repeats
    shares = [_linear_shares((2 * i + 1 - size) / (2 * size)) for i in range(size)]
    blocks = [
        tf.nn.depthwise_conv2d(
            around,
            np.tile(np.outer(rows, columns)[:, :, np.newaxis, np.newaxis], (1, 1, channels, 1)),
            [1, 1, 1, 1],
            "VALID",
        )
        for rows in shares
        for columns in shares
    ]
    return tf.nn.depth_to_space(tf.concat(blocks, -1), size)


def _linear_shares(offset: float) -> NDArray[np.float32]:
    """Weights of the pixel before, itself and the one after, at an offset of -0.5..0.5."""
    return np.array([max(-offset, 0.0), 1 - abs(offset), max(offset, 0.0)], np.float32)


def _depth_to_space(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    if attribute(node, "mode", b"DCR") != b"DCR":
        raise _refused(node, "mode DCR")
    return tf.nn.depth_to_space(inputs[0], attribute(node, "blocksize"))


def _batch_norm(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    image, gamma, beta, mean, variance = inputs
    scale = gamma / np.sqrt(variance + np.float32(attribute(node, "epsilon", 1e-5)))
    return image * scale + (beta - mean * scale)


def _elementwise(function: str) -> Converter:
    def convert(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
        import tensorflow as tf

        return getattr(tf, function)(*(_spread(value) for value in inputs))

    return convert


def _spread(value: Value) -> Value:
    """Bring a constant from ONNX's order of axes, which broadcasts from the right, to NHWC."""
    if not isinstance(value, np.ndarray) or value.ndim < 3:
        return value
    if value.ndim == WINDOW_RANK:
        return value[0]
    value = value.reshape(*[1] * (4 - value.ndim), *value.shape)
    return value.transpose(_TO_NHWC)


def _activation(function: str) -> Converter:
    def convert(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
        import tensorflow as tf

        return getattr(tf.nn, function)(inputs[0])

    return convert


def _leaky_relu(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    return tf.nn.leaky_relu(inputs[0], attribute(node, "alpha", 0.01))


def _elu(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    if attribute(node, "alpha", 1.0) != 1.0:
        raise _refused(node, "alpha 1")
    return tf.nn.elu(inputs[0])


def _prelu(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    value, slope = inputs
    return tf.nn.relu(value) - tf.nn.relu(-value) * _spread(slope)


def _hard_sigmoid(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    return _gate(inputs[0], attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5))


def _hard_swish(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    return inputs[0] * _gate(inputs[0], 1 / 6, 0.5)


def _gate(value: Value, slope: float, middle: float) -> Value:
    import tensorflow as tf

    return tf.minimum(tf.nn.relu(value * slope + middle), 1.0)


def _clip(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    value, low, high = [*inputs, None, None][:3]
    value = value if low is None else tf.maximum(value, low)
    return value if high is None else tf.minimum(value, high)


def _concat(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    _require_channels(node, "axis")
    return tf.concat(list(inputs), -1)


def _gather(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    _require_channels(node, "axis")
    return tf.gather(inputs[0], inputs[1].astype(np.int32), axis=-1)


def _softmax(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    if attribute(node, "axis", -1) != -1:  # of windows, which are NHWC in ONNX too
        _require_channels(node, "axis")
    return tf.nn.softmax(inputs[0], -1)


def _cast(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    return tf.cast(inputs[0], tf.float32)


_CONVERTERS: dict[str, Converter] = {
    "Add": _elementwise("add"),
    "AveragePool": _pool("AVG"),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Abs": _elementwise("abs"),
    "Div": _elementwise("divide"),
    "Exp": _elementwise("exp"),
    "Neg": _elementwise("negative"),
    "Elu": _elu,
    "Gather": _gather,
    "GreaterOrEqual": _elementwise("greater_equal"),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "Max": _elementwise("maximum"),
    "MaxPool": _pool("MAX"),
    "Min": _elementwise("minimum"),
    "Mul": _elementwise("multiply"),
    "PRelu": _prelu,
    "Pow": _elementwise("pow"),
    "Relu": _activation("relu"),
    "Resize": _resize,
    "Sigmoid": _activation("sigmoid"),
    "Softmax": _softmax,
    "Sub": _elementwise("subtract"),
    "Tanh": _activation("tanh"),
    "Where": _elementwise("where"),
    **NORM_CONVERTERS,
    **WINDOW_CONVERTERS,
}


def _padded(node: onnx.NodeProto, image: Value, kernel: Sequence[int]) -> tuple[Value, str]:
    """Return the image and TensorFlow's word for its padding; other pads are put on at once."""
    import tensorflow as tf

    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    pads = attribute(node, "pads", [0, 0, 0, 0])
    if pads == _same_pads(kernel, strides, dilations):
        return image, "SAME"
    top, left, bottom, right = pads
    return tf.pad(image, [[0, 0], [top, bottom], [left, right], [0, 0]]), "VALID"


def _same_pads(
    kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """Return what TensorFlow pads by "same" where sizes are multiples of the stride."""
    total = [
        max((k - 1) * d + 1 - s, 0) for k, s, d in zip(kernel, strides, dilations, strict=True)
    ]
    before = [pad // 2 for pad in total]
    return [*before, *(pad - first for pad, first in zip(total, before, strict=True))]


def _require_channels(node: onnx.NodeProto, name: str) -> None:
    if attribute(node, name, -1) != 1:
        raise _refused(node, f"{name} 1")


def _refused(node: onnx.NodeProto, rule: str) -> ExportError:
    return ExportError(f"For TFLite a {node.op_type} must have {rule}. Received: {node.name!r}.")
