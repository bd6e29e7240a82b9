"""How far past a tile's edge a network can be felt, by its structure alone: an exact bound.

Walking back from an output pixel, each layer widens the interval of pixels it depends on::

    convolution, pooling   lo * s - pad_top  ..  hi * s - pad_top + (k - 1) * d
    transposed convolution ceil((lo + pad - k + 1) / s)  ..  floor((hi + pad) / s)
    depth to space         lo // b  ..  hi // b
    resize                 the source pixels around (i + 1/2) / s - 1/2, or i / s
    slice                  start + i * step

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
from fractions import Fraction
from typing import TYPE_CHECKING

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import Graph, attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

__all__ = ["Reach", "output_scale", "structural_reach", "total_stride", "whole_tile_nodes"]

Interval = tuple[int, int]

_POINTWISE = {
    "Abs", "Add", "And", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Concat", "Cos",
    "DequantizeLinear", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gather", "Greater",
    "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual",
    "Log", "Max", "Mean", "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear",
    "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign",
    "Split", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Transpose", "Where", "Xor",
    # Over channels; `onnx_shapes` refuses them in a user's graph where they run over the image.
    "LayerNormalization", "LogSoftmax", "LRN", "LpNormalization", "ReduceL1", "ReduceL2",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Softmax",
    # Within the pixels that a window has become: rows and columns stay where they are.
    "MatMul", "Reshape", "Squeeze", "Unsqueeze",
}  # fmt: skip
_WHOLE_TILE = {"GlobalAveragePool", "InstanceNormalization"}
_PLACES = {b"half_pixel", b"pytorch_half_pixel", b"half_pixel_symmetric", b"asymmetric"}
_ROUNDINGS: dict[bytes, Callable[[Fraction], int]] = {
    b"floor": math.floor,
    b"ceil": math.ceil,
    b"round_prefer_floor": lambda place: math.ceil(place - Fraction(1, 2)),
    b"round_prefer_ceil": lambda place: math.floor(place + Fraction(1, 2)),
}


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
    """Return the number that heights and widths must be multiples of.

    A tensor of 2/3 of the image's height wants a multiple of 3; one of a half beside it wants a
    multiple of 2 as well, so 6 in all.
    """
    graph = Graph(model)
    return math.lcm(*(_stride_along(graph, axis) for axis in (0, 1)))


def output_scale(model: onnx.ModelProto) -> tuple[Fraction, Fraction]:
    """Return the rows, and the columns, of the image that one of the output stands for."""
    graph = Graph(model)
    rows, columns = (_scales_along(graph, axis).get(graph.output, Fraction(0)) for axis in (0, 1))
    return rows, columns


def _stride_along(graph: Graph, axis: int) -> int:
    return math.lcm(*(value.numerator for value in _scales_along(graph, axis).values()))


def _scales_along(graph: Graph, axis: int) -> dict[str, Fraction]:
    scale = {graph.input: Fraction(1)}  # pixels of the image per row or column
    for node in graph.nodes:
        known = [scale[name] for name in node.input if name in scale]
        if known and node.op_type != "GlobalAveragePool":  # a mean has no rows: it fits any map
            made = max(known) * _shrinkage(graph, node, axis)
            scale.update(dict.fromkeys(node.output, made))
    return scale


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
        wanted = [needs[name] for name in node.output if name in needs]
        if not wanted:
            continue
        outer = (min(low for low, _ in wanted), max(high for _, high in wanted))
        interval = _before(graph, node, outer, axis)
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
        offset, step = _cut(graph, node, axis)
        return low * step + offset, high * step + offset
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
        return _before_resize(node, interval, _resize_factor(graph, node, axis))
    raise ExportError(
        f"The reach of every operator must be known. Received: {node.name!r} ({node.op_type}).",
        hint="Build that layer of convolutions, poolings, resizing by whole factors and "
        "elementwise operators.",
    )


def _window(node: onnx.NodeProto, axis: int) -> tuple[int, int, int]:
    """Return padding before, distance of the last tap from the first, stride."""
    kernel = attribute(node, "kernel_shape")[axis]
    dilation = attribute(node, "dilations", [1, 1])[axis]
    pads = attribute(node, "pads", [0, 0, 0, 0])
    return pads[axis], (kernel - 1) * dilation, attribute(node, "strides", [1, 1])[axis]


def _cut(graph: Graph, node: onnx.NodeProto, axis: int) -> tuple[int, int]:
    """Return the row or column of the input at which the output begins, and the step."""
    numbers = graph.constant(node.input[1])
    if numbers is None:
        raise ExportError(f"What is added or cut must be constant. Received: {node.name!r}.")
    if node.op_type == "Pad":
        return -int(numbers[2 + axis]), 1
    axes = _optional(graph, node, 3, range(len(numbers)))
    steps = _optional(graph, node, 4, [1] * len(numbers))
    cuts = {at: (int(n), int(step)) for at, n, step in zip(axes, numbers, steps, strict=True)}
    if any(at < 0 for at in axes) or any(min(cuts.get(at, (0, 1))) < 0 for at in (2, 3)):
        raise ExportError(
            "Slice must cut rows and columns, counted from the top left. "
            f"Received: {node.name!r}, axes {[*map(int, axes)]}, starts {numbers.tolist()}.",
            hint="What turns a map over, rolls it or wraps it round its borders cannot be tiled.",
        )
    return cuts.get(2 + axis, (0, 1))


def _optional(graph: Graph, node: onnx.NodeProto, place: int, default: Sequence[int]) -> list[int]:
    value = graph.constant(node.input[place]) if len(node.input) > place else None
    return [*default] if value is None else [int(number) for number in value]


def _before_resize(node: onnx.NodeProto, interval: Interval, size: int) -> Interval:
    """Source pixels of an interval; what lies beyond the image repeats its border."""
    places = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    if places not in _PLACES:
        raise ExportError(
            "Resize must place pixels alike in every tile: 'half_pixel' or 'asymmetric'. "
            f"Received: {node.name!r} with {places.decode()!r}, which stretches to the corners.",
            hint="Train and export with align_corners=False.",
        )
    half = Fraction(1, 2) if places != b"asymmetric" else Fraction(0)
    low, high = ((position + half) / size - half for position in interval)
    mode = attribute(node, "mode", b"nearest")
    if mode == b"nearest":
        nearest = _ROUNDINGS[attribute(node, "nearest_mode", b"round_prefer_floor")]
        return nearest(low), nearest(high)
    around = 1 if mode == b"cubic" else 0
    return math.floor(low) - around, math.floor(high) + 1 + around


def _shrinkage(graph: Graph, node: onnx.NodeProto, axis: int) -> Fraction:
    """Input pixels per output pixel."""
    if node.op_type in ("Conv", "MaxPool", "AveragePool"):
        return Fraction(attribute(node, "strides", [1, 1])[axis])
    if node.op_type == "ConvTranspose":
        return Fraction(1, attribute(node, "strides", [1, 1])[axis])
    if node.op_type == "DepthToSpace":
        return Fraction(1, attribute(node, "blocksize"))
    if node.op_type == "SpaceToDepth":
        return Fraction(attribute(node, "blocksize"))
    if node.op_type == "Resize":
        return Fraction(1, _resize_factor(graph, node, axis))
    if node.op_type == "Slice":
        return Fraction(_cut(graph, node, axis)[1])
    return Fraction(1)


def _resize_factor(graph: Graph, node: onnx.NodeProto, axis: int) -> int:
    scales = graph.constant(node.input[2]) if len(node.input) > 2 else None
    if scales is None or len(scales) != 4 or scales[2 + axis] != round(float(scales[2 + axis])):
        raise ExportError(
            f"Resize must have whole, constant factors. Received: {node.name!r}.",
            hint="Upsample by scale_factor=2, not to a size that is computed from another map.",
        )
    return round(float(scales[2 + axis]))
