"""How means, normalizations and smooth activations read in TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

__all__ = ["NORM_CONVERTERS"]

Value = Any
_ROWS_AND_COLUMNS = [1, 2]
# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: error at most 1.5e-7.
_ERF_P = 0.3275911
_ERF_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def _over_channels(function: str) -> Callable[[onnx.NodeProto, Sequence[Value]], Value]:
    def convert(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
        import tensorflow as tf

        if list(attribute(node, "axes", [])) != [1] or not attribute(node, "keepdims", 1):
            raise ExportError(
                f"For TFLite a {node.op_type} must be over the channels. Received: {node.name!r}."
            )
        return getattr(tf, function)(inputs[0], axis=-1, keepdims=True)

    return convert


def _global_average_pool(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    return tf.reduce_mean(inputs[0], axis=_ROWS_AND_COLUMNS, keepdims=True)


def _instance_norm(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    image, gamma, beta = inputs
    mean = tf.reduce_mean(image, axis=_ROWS_AND_COLUMNS, keepdims=True)
    centred = image - mean
    variance = tf.reduce_mean(centred * centred, axis=_ROWS_AND_COLUMNS, keepdims=True)
    return centred / tf.sqrt(variance + attribute(node, "epsilon", 1e-5)) * gamma + beta


def _sqrt(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    import tensorflow as tf

    return tf.sqrt(inputs[0])


def _softplus(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """Compute ``max(x, 0) + log(1 + exp(-|x|))``, which cannot overflow."""
    import tensorflow as tf

    return tf.nn.relu(inputs[0]) + tf.math.log(1.0 + tf.exp(-tf.abs(inputs[0])))


def _erf(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """LiteRT has no error function; this one is a polynomial times a Gaussian."""
    import tensorflow as tf

    size = tf.abs(inputs[0])
    t = 1.0 / (1.0 + _ERF_P * size)
    total = t * 0.0
    for factor in reversed(_ERF_A):
        total = (total + factor) * t
    return tf.sign(inputs[0]) * (1.0 - total * tf.exp(-size * size))


NORM_CONVERTERS = {
    "Erf": _erf,
    "GlobalAveragePool": _global_average_pool,
    "InstanceNormalization": _instance_norm,
    "ReduceMax": _over_channels("reduce_max"),
    "ReduceMean": _over_channels("reduce_mean"),
    "Softplus": _softplus,
    "Sqrt": _sqrt,
}
