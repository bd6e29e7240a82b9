"""How far past a tile's edge a network can be felt, by its structure alone: an exact bound.

Walking back from an output pixel, each layer widens the interval of pixels it depends on::

    convolution, pooling   lo * s - pad_top  ..  hi * s - pad_top + (k - 1) * d
    transposed convolution ceil((lo + pad - k + 1) / s)  ..  floor((hi + pad) / s)
    depth to space         lo // b  ..  hi // b
    resize (linear)        the two source pixels around (i + 1/2) / s - 1/2

Where branches meet, the union counts. Weights are not looked at: no input can make the network see
farther, and a measurement must stay within.

Edges of tiles are multiples of the stride, so what counts is how far from such an edge an output
pixel can lie and still depend on the other side. That is less than the radius of the receptive
field around any pixel: a pixel that sees farthest is never the one at the edge. A UNet of 4 levels
behind a stride-2 stem sees up to 104 px, but is felt 92 px past an edge::

           edge (multiple of the stride)
    .........|#########|.................
             |<-------->|  what is felt: pixels that depend on the left side
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.errors import ExportError
from cellseg.export.graph import Graph, attribute

if TYPE_CHECKING:
    import onnx

__all__ = ["Reach", "structural_reach", "total_stride", "whole_tile_nodes"]

Interval = tuple[int, int]

_POINTWISE = {
    "Add", "BatchNormalization", "Cast", "Clip", "Concat", "DequantizeLinear", "Div", "Elu", "Erf",
    "Exp", "Gather", "GreaterOrEqual", "LeakyRelu", "Max", "Min", "Mul", "Pow", "QuantizeLinear",
    "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Sub",
    "Tanh", "Transpose", "Where",
    # Within the pixels that a window has become: rows and columns stay where they are.
    "MatMul", "Reshape",
}  # fmt: skip
_WHOLE_TILE = {"GlobalAveragePool", "InstanceNormalization"}


@dataclass(frozen=True)
class Reach:
    """How many pixels past an edge depend on what lies on its other side, at worst."""

    before_px: int
    """Past a top or left edge."""

    after_px: int
    """Before a bottom or right edge."""

    @property
    def radius_px(self) -> int:
        """The larger of the two: the least halo, before it is rounded up to the stride."""
        return max(self.before_px, self.after_px)


def structural_reach(model: onnx.ModelProto) -> tuple[Reach, Reach]:
    """Bound the reach along y and x, of all that is local.

    What looks at the whole tile reaches any distance: see `whole_tile_nodes`.

    Parameters
    ----------
    model : onnx.ModelProto
        A graph of our exporter, quantized or not.

    Raises
    ------
    ExportError
        If an operator's reach is not known; it is named.
    """
    graph = Graph(model)
    stride = total_stride(model)
    return (_reach_along(graph, 0, stride), _reach_along(graph, 1, stride))


def whole_tile_nodes(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the nodes that look at the whole tile, for which no bound holds."""
    return tuple(node.name for node in model.graph.node if node.op_type in _WHOLE_TILE)


def total_stride(model: onnx.ModelProto) -> int:
    """Return the number that heights and widths must be multiples of."""
    graph = Graph(model)
    scale = {graph.input: 1.0}
    for node in graph.nodes:
        known = [scale[name] for name in node.input if name in scale]
        if known:
            scale[node.output[0]] = max(known) * _shrinkage(graph, node)
    return round(max(scale.values()))


def _reach_along(graph: Graph, axis: int, stride: int) -> Reach:
    needed = [_needed(graph, axis, phase) for phase in range(stride)]
    before = [phase - low for phase, (low, _) in enumerate(needed)]
    after = [high - phase for phase, (_, high) in enumerate(needed)]
    # Pixel d past an edge has phase d, pixel d before one has phase -1 - d; it depends on the
    # other side if it sees farther than d.
    past = [d for d in range(max(before) + 1) if before[d % stride] > d]
    short = [d for d in range(max(after) + 1) if after[(-1 - d) % stride] > d]
    return Reach(max(past, default=-1) + 1, max(short, default=-1) + 1)


def _needed(graph: Graph, axis: int, position: int) -> Interval:
    """Input interval that one output position depends on."""
    needs: dict[str, Interval] = {graph.output: (position, position)}
    for node in reversed(graph.nodes):
        if node.output[0] not in needs:
            continue
        interval = _before(graph, node, needs[node.output[0]], axis)
        for name in node.input:
            low, high = needs.get(name, interval)
            needs[name] = (min(low, interval[0]), max(high, interval[1]))
    return needs[graph.input]


def _before(graph: Graph, node: onnx.NodeProto, interval: Interval, axis: int) -> Interval:
    low, high = interval
    if node.op_type in _POINTWISE or node.op_type in _WHOLE_TILE:
        return interval
    if node.op_type == "SpaceToDepth":
        size = attribute(node, "blocksize")
        return low * size, high * size + size - 1
    if node.op_type in ("Pad", "Slice"):
        offset = _offset(graph, node, axis)
        return low + offset, high + offset
    if node.op_type in ("Conv", "MaxPool", "AveragePool"):
        start, reach, stride = _window(node, axis)
        return low * stride - start, high * stride - start + reach
    if node.op_type == "ConvTranspose":
        start, reach, stride = _window(node, axis)
        return math.ceil((low + start - reach) / stride), (high + start) // stride
    if node.op_type == "DepthToSpace":
        size = attribute(node, "blocksize")
        return low // size, high // size
    if node.op_type == "Resize":
        size = _resize_factor(graph, node, axis)
        if attribute(node, "mode", b"nearest") == b"nearest":
            return low // size, high // size
        first, last = ((2 * i + 1 - size) // (2 * size) for i in (low, high))
        return first, last + 1
    raise ExportError(
        f"The reach of every operator must be known. Received: {node.name!r} ({node.op_type})."
    )


def _window(node: onnx.NodeProto, axis: int) -> tuple[int, int, int]:
    """Return padding before, distance of the last tap from the first, stride."""
    kernel = attribute(node, "kernel_shape")[axis]
    dilation = attribute(node, "dilations", [1, 1])[axis]
    pads = attribute(node, "pads", [0, 0, 0, 0])
    return pads[axis], (kernel - 1) * dilation, attribute(node, "strides", [1, 1])[axis]


def _offset(graph: Graph, node: onnx.NodeProto, axis: int) -> int:
    """Return the row or column of the input at which the output begins."""
    numbers = graph.constant(node.input[1])
    if numbers is None:
        raise ExportError(f"What is added or cut must be constant. Received: {node.name!r}.")
    if node.op_type == "Pad":
        return -int(numbers[2 + axis])
    axes = graph.constant(node.input[3]) if len(node.input) > 3 else None
    if axes is None or list(axes) != [2, 3] or min(numbers) < 0:
        raise ExportError(f"Slice must cut rows and columns. Received: {node.name!r}.")
    return int(numbers[axis])


def _shrinkage(graph: Graph, node: onnx.NodeProto) -> float:
    """Input pixels per output pixel."""
    if node.op_type in ("Conv", "MaxPool", "AveragePool"):
        return float(max(attribute(node, "strides", [1, 1])))
    if node.op_type == "ConvTranspose":
        return 1.0 / float(max(attribute(node, "strides", [1, 1])))
    if node.op_type == "DepthToSpace":
        return 1.0 / float(attribute(node, "blocksize"))
    if node.op_type == "SpaceToDepth":
        return float(attribute(node, "blocksize"))
    if node.op_type == "Resize":
        return 1.0 / max(_resize_factor(graph, node, 0), _resize_factor(graph, node, 1))
    return 1.0


def _resize_factor(graph: Graph, node: onnx.NodeProto, axis: int) -> int:
    scales = graph.constant(node.input[2])
    if scales is None or scales[2 + axis] != round(float(scales[2 + axis])):
        raise ExportError(f"Resize must have whole, constant factors. Received: {node.name!r}.")
    return round(float(scales[2 + axis]))
