"""What a user's ONNX does to the shape of an image, found by running it.

Operators count axes, not rows and columns: whether a mean goes over channels or over the tile
depends on what came before it. An axis whose length follows the image's is one of the image::

    image 256 x 256   x: (1, 8, 128, 128)
    image 256 x 512   x: (1, 8, 128, 256)   axes 2 and 3 are the image's: a mean over axis 1
    image 512 x 256   x: (1, 8, 256, 128)   is local, one over axis 2 is not
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.builder import INPUT
from cellseg.export.onnx_graph.graph import Graph, attribute
from cellseg.export.onnx_graph.reach import total_stride
from cellseg.export.passes.fold_constants import FoldConstants
from cellseg.export.passes.settle_sizes import SettleSizes, unsettled
from cellseg.runtime.engines.untold import untold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    HW = tuple[int, int]
    Runs = dict[HW, dict[str, NDArray[Any]]]

__all__ = [
    "any_size",
    "refuse_whole_tile",
    "run_outputs",
    "run_session",
    "session_of",
    "settle_sizes",
    "whole_tile_error",
]

_LEAST_PX = 64  # small: attention over all pixels takes memory as the fourth power of it
_SIDES_PX = (64, 72, 80, 112, 176, 256, 288)  # one is divided by any 2^n, 9 * 2^n, 5, 7, 11
_ALWAYS = {
    "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GroupNormalization",
    "InstanceNormalization", "MeanVarianceNormalization",
}  # fmt: skip
_BOUNDED = {"GlobalAveragePool", "InstanceNormalization"}  # those that a tolerance can allow
_BY_AXES = {
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
}  # fmt: skip
_BY_AXIS = {"ArgMax", "ArgMin", "LayerNormalization", "LogSoftmax", "LpNormalization", "Softmax"}
_OF_NUMBERS = {
    "Add", "Cast", "Concat", "Div", "Gather", "Max", "Min", "Mod", "Mul", "Neg", "Slice", "Split",
    "Squeeze", "Sub", "Unsqueeze",
}  # fmt: skip


def settle_sizes(model: onnx.ModelProto, hw: tuple[int, int] | None) -> None:
    """Let every Resize say its factor, in place; see `SettleSizes`.

    Parameters
    ----------
    model : onnx.ModelProto
        uint8 (N, H, W, 3) in.
    hw : (int, int) or None
        The only size it takes so far; None: any.
    """
    if hw is None:
        _drop_idle(model)
        _settle_numbers(model)
        _settle_ends(model)
    nodes = unsettled(Graph(model))
    if nodes:
        names = [name for node in nodes for name in (node.input[0], node.output[0])]
        runs = any_size(model, names) if hw is None else {hw: run_outputs(model, names, hw)}
        shapes = [{name: value.shape for name, value in run.items()} for run in runs.values()]
        SettleSizes(shapes).apply(Graph(model))
        Graph(model).drop_unused()


def _drop_idle(model: onnx.ModelProto) -> None:
    """Take out what fits a map to a size that is computed, and finds it fitting every time.

    Keras surrounds each transposed convolution with such nodes.
    """
    graph = Graph(model)
    nodes = [
        node
        for node in graph.of_type("Slice", "Pad", "Reshape", "Expand")
        if any(name and graph.constant(name) is None for name in node.input[1:])
    ]
    names = [name for node in nodes for name in (node.input[0], node.output[0])]
    runs = [*any_size(model, names).values()] if nodes else []
    for node in nodes:
        pairs = [(run[node.input[0]], run[node.output[0]]) for run in runs]
        idle = all(np.array_equal(before, after, equal_nan=True) for before, after in pairs)
        if idle and pairs[0][0].ndim == 4 and node.output[0] != graph.output:
            graph.bypass(node, node.input[0])
    graph.drop_unused()


def _settle_numbers(model: onnx.ModelProto) -> None:
    """Make constants of what is computed from shapes, and is the same for every size of image.

    The number of channels is; torch asks for it to cut a map in two.
    """
    graph = Graph(model)
    found: list[str] = []
    for node in graph.nodes:
        follows = any(name in found for name in node.input) and node.op_type in _OF_NUMBERS
        if node.op_type == "Shape" or follows:
            found.extend(node.output)
    runs = [*any_size(model, found).values()] if found else []
    for node in [node for node in graph.nodes if node.output[0] in found]:
        if all(np.array_equal(runs[0][name], run[name]) for name in node.output for run in runs):
            graph.replace(node, [])
            made = [numpy_helper.from_array(np.asarray(runs[0][n]), n) for n in node.output]
            model.graph.initializer.extend(made)
    FoldConstants().apply(graph)
    graph.drop_unused()


def _settle_ends(model: onnx.ModelProto) -> None:
    """Count the ends of a Slice from the end of the map, where that is what is computed."""
    graph = Graph(model)
    nodes = [
        node
        for node in graph.of_type("Slice")
        if len(node.input) > 3 and graph.constant(node.input[2]) is None
    ]
    names = [name for node in nodes for name in (node.input[0], node.input[2])]
    runs = [*any_size(model, names).values()] if nodes else []
    for node in nodes:
        axes = graph.constant(node.input[3])
        left = [
            run[node.input[2]] - np.array(run[node.input[0]].shape)[axes]
            for run in runs
            if axes is not None
        ]
        if left and all((over == left[0]).all() for over in left) and left[0].max() <= 0:
            ends = np.where(left[0] == 0, np.iinfo(np.int64).max, left[0])
            node.input[2] = graph.add_constant(f"{node.name}/ends", ends.astype(np.int64))
    graph.drop_unused()


def any_size(model: onnx.ModelProto, names: Sequence[str]) -> Runs:
    """Run three sizes of image, the sides of which the network's stride divides.

    Raises
    ------
    ExportError
        If no such side is found.
    """
    tried: list[ExportError] = []
    for side in _sides(model):
        sizes = ((side, side), (side, 2 * side), (2 * side, side))
        with _collected(tried):
            return {hw: run_outputs(model, names, hw) for hw in sizes}
    raise tried[0]


def _sides(model: onnx.ModelProto) -> list[int]:
    """Sides to try, the likeliest first: a multiple of the stride, as far as it can be told."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    graph = Graph(plain)
    for node in unsettled(graph):
        graph.bypass(node, node.input[0])
    try:
        stride = total_stride(plain)
    except ExportError:  # an operator that is refused later, by name
        return [*_SIDES_PX]
    return [-(-_LEAST_PX // stride) * stride, *_SIDES_PX]


@contextmanager
def _collected(errors: list[ExportError]) -> Iterator[None]:
    try:
        yield
    except ExportError as error:
        errors.append(error)


def run_outputs(
    model: onnx.ModelProto, names: Sequence[str], hw: tuple[int, int]
) -> dict[str, NDArray[Any]]:
    """Run noise of one size; returns the named tensors.

    Raises
    ------
    ExportError
        If ONNX Runtime cannot load or run the model.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    wanted = list(dict.fromkeys(names))
    del opened.graph.output[:]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    image = np.random.default_rng(0).integers(0, 256, (1, *hw, 3), np.uint8)
    return dict(zip(wanted, run_session(session_of(opened), {INPUT: image}), strict=True))


def run_session(session: Any, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Run a session.

    Raises
    ------
    ExportError
        If ONNX Runtime cannot.
    """
    try:
        return list(session.run(None, feed))
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise ExportError(
            "A model must run on images of any size that its stride divides. "
            f"Received: {str(error).splitlines()[0]}",
            hint="Sizes inside the graph must not be fixed: export it with dynamic axes.",
        ) from error


def session_of(model: onnx.ModelProto) -> Any:
    """Open a CPU session.

    Raises
    ------
    ExportError
        If ONNX Runtime cannot load the model.
    """
    with untold():
        import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # as in `run_session`
        raise ExportError(
            f"ONNX Runtime must be able to load the model. Received: {error}."
        ) from error


def refuse_whole_tile(model: onnx.ModelProto, allowed: bool) -> None:
    """Refuse what looks at the whole tile; a mean over the tile becomes a global pooling.

    Parameters
    ----------
    model : onnx.ModelProto
        uint8 (N, H, W, 3) in, any size; changed in place.
    allowed : bool
        Whether a tolerance was given, for what its effect can be measured of.

    Raises
    ------
    ExportError
        If such a node is left; it is named.
    """
    graph = Graph(model)
    nodes = [*graph.of_type(*_ALWAYS, *_BY_AXES, *_BY_AXIS, "CumSum")]
    runs = any_size(model, [node.input[0] for node in nodes]) if nodes else {}
    for node in nodes:
        over = _axes_over_image(graph, node, [run[node.input[0]].shape for run in runs.values()])
        if not over:
            continue
        if allowed and _is_mean_of_image(graph, node):
            pooled = helper.make_node(
                "GlobalAveragePool", [node.input[0]], [*node.output], node.name
            )
            graph.replace(node, [pooled])
        elif not (allowed and node.op_type in _BOUNDED):
            before = graph.producer(node.input[0])
            # Norms of groups of channels are one between two Reshapes, whose reach nobody can tell.
            is_grouped = before is not None and before.op_type == "Reshape"
            raise whole_tile_error(node, is_grouped)


def _is_mean_of_image(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node is what a global average pooling is."""
    kept = node.op_type == "ReduceMean" and attribute(node, "keepdims", 1) == 1
    return kept and {axis % 4 for axis in _axes(graph, node, 4)} == {2, 3}


def whole_tile_error(node: onnx.NodeProto, is_grouped: bool = False) -> ExportError:
    """Return the error for a layer whose results depend on where a tile ends."""
    hint = "Use BatchNormalization, whose statistics are fixed after training"
    if node.op_type in (*_BOUNDED, "ReduceMean") and not is_grouped:
        hint += "; or allow a difference, which is then measured and stored: --halo-tolerance 0.05"
    return ExportError(
        "A layer must not look at the whole tile: it makes seams that no halo mends. "
        f"Received: {node.name!r} ({node.op_type}).",
        hint=f"{hint}.",
    )


def _axes_over_image(
    graph: Graph, node: onnx.NodeProto, shapes: Sequence[tuple[int, ...]]
) -> set[int]:
    """Axes of the image that a node computes over."""
    rank = len(shapes[0])
    follows = {axis for axis in range(rank) if len({shape[axis] for shape in shapes}) > 1}
    if node.op_type in _ALWAYS:
        return set(range(2, rank))
    return follows & {axis % rank for axis in _axes(graph, node, rank)}


def _axes(graph: Graph, node: onnx.NodeProto, rank: int) -> Sequence[int]:
    if node.op_type in _BY_AXES or node.op_type == "CumSum":
        given = attribute(node, "axes")
        if given is None and len(node.input) > 1:
            given = graph.constant(node.input[1])
        return range(rank) if given is None else [int(axis) for axis in np.atleast_1d(given)]
    first = int(attribute(node, "axis", 0 if node.op_type.startswith("Arg") else -1))
    return range(first % rank, rank) if node.op_type == "LayerNormalization" else [first]
