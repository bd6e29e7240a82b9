"""How padding, cutting and window attention read in TensorFlow.

Tensors of six axes, (1, rows, columns, ...) in ONNX, lose their first one here: LiteRT multiplies
matrices of at most five axes. They are NHWC on both sides, so nothing else changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

__all__ = ["WINDOW_CONVERTERS", "WINDOW_RANK"]

Value = Any

WINDOW_RANK = 6
_KEPT = 3


def pad(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """Add rows and columns of zeros."""
    import tensorflow as tf

    sizes = [int(size) for size in inputs[1]]
    if attribute(node, "mode", b"constant") != b"constant" or len(inputs) > 2:
        raise ExportError(f"For TFLite a Pad must add zeros. Received: {node.name!r}.")
    _, _, top, left, _, _, bottom, right = sizes
    return tf.pad(inputs[0], [[0, 0], [top, bottom], [left, right], [0, 0]])


def cut(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """Take rows and columns away at both ends."""
    image, first, last, axes = inputs
    if [int(axis) for axis in axes] != [2, 3] or min(first) < 0 or max(last) >= 0:
        raise ExportError(
            f"For TFLite a Slice must cut rows and columns off the ends. Received: {node.name!r}."
        )
    return image[:, int(first[0]) : int(last[0]), int(first[1]) : int(last[1])]


def space_to_depth(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """Make a block of pixels one pixel."""
    import tensorflow as tf

    size = attribute(node, "blocksize")
    return inputs[0] if size == 1 else tf.nn.space_to_depth(inputs[0], size)


def reshape(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """Divide or join the last axes; the first three stay.

    By splitting and stacking: a reshape would have to ask for the sizes of the others.
    """
    import tensorflow as tf

    value, shape = inputs
    last = [int(size) for size in shape[_KEPT:]]
    if any(shape[:_KEPT]) or len(last) not in (1, WINDOW_RANK - _KEPT):
        raise ExportError(
            f"For TFLite a Reshape must keep the first three axes. Received: {node.name!r}."
        )
    if len(last) == 1:
        joined = tf.concat(tf.unstack(value, axis=3), -1)
        return tf.expand_dims(tf.concat(tf.unstack(joined, axis=2), -1), 0)
    divided = tf.squeeze(value, 0)
    for axis, count in ((2, last[0]), (3, last[1])):
        parts = tf.split(divided, count, -1) if count > 1 else [divided]
        divided = tf.stack(parts, axis)
    return divided


def transpose(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """Order the axes of a window; between NCHW and NHWC nothing happens, all is NHWC here."""
    import tensorflow as tf

    perm = list(attribute(node, "perm"))
    if perm in ([0, 2, 3, 1], [0, 3, 1, 2]):
        return inputs[0]
    if len(perm) != WINDOW_RANK or perm[:_KEPT] != [0, 1, 2]:
        raise ExportError(
            "For TFLite a Transpose must be between NCHW and NHWC, or within windows. "
            f"Received: {node.name!r}."
        )
    return tf.transpose(inputs[0], [axis - 1 for axis in perm[1:]])


def matmul(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """Multiply the matrices of each window."""
    import tensorflow as tf

    return tf.matmul(inputs[0], inputs[1])


WINDOW_CONVERTERS = {
    "MatMul": matmul,
    "Pad": pad,
    "Reshape": reshape,
    "Slice": cut,
    "SpaceToDepth": space_to_depth,
    "Transpose": transpose,
}
