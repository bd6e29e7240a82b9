"""How a user's ONNX gives its result, and what is added so that it gives probabilities.

Logits get the softmax or sigmoid that the classes call for. Whether they are logits is not read off
the last operator alone, for a softmax may be spelled out, clipped or averaged: values that lie in
0..1 on noise are probabilities already.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from cellseg.errors import ExportError
from cellseg.export.from_onnx.shapes import any_size
from cellseg.export.onnx_graph.builder import OUTPUT
from cellseg.export.onnx_graph.graph import Graph, attribute

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["Ending", "find_ending"]

_LOG = logging.getLogger(__name__)
_TO_NHWC, _TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
_HEADS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_LAYOUTS = {"planar": (2, 4), "packed": (1, 4), "flat": (1, 3)}  # axis of the rows, axes in all
_ROUNDING = 1e-3  # of float32 sums over classes


@dataclass(frozen=True)
class Ending:
    """The last nodes: probabilities, NHWC."""

    channels: int
    layout: str
    """``planar`` (N, C, H, W), ``packed`` (N, H, W, C) or ``flat`` (N, H, W)."""

    head: str
    """``softmax`` or ``sigmoid``."""

    added: str | None
    """Operator that makes probabilities of logits; None where they are."""

    def apply(self, model: onnx.ModelProto) -> None:
        """Bring the result into our form, in place."""
        graph = Graph(model)
        value = self._planes(graph)
        if self.added is not None:
            value = _append_head(graph, self.added, value)
        _append(graph, "Transpose", [value], OUTPUT, perm=_TO_NHWC)
        del model.graph.output[:]
        shape: list[str | int | None] = ["N", "H", "W", self.channels]
        model.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))
        graph.drop_unused()

    def finish(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Do the same to what the original gave for one image; returns (H, W, C)."""
        first = values[0][..., np.newaxis] if self.layout == "flat" else values[0]
        packed = first.transpose(1, 2, 0) if self.layout == "planar" else first
        if self.added == "Sigmoid":
            packed = 1 / (1 + np.exp(-packed))
        elif self.added == "Softmax":
            powers = np.exp(packed - packed.max(-1, keepdims=True))
            packed = powers / powers.sum(-1, keepdims=True)
        return np.asarray(packed, np.float32)

    def _planes(self, graph: Graph) -> str:
        """Return the result as (N, C, H, W), by fewer nodes where it was turned to NHWC."""
        value = graph.output
        if self.layout == "planar":
            return value
        if self.layout == "flat":
            return self._unsqueezed(graph)
        last = graph.producer(value)
        assert last is not None  # the model has run
        if attribute(last, "perm") == _TO_NHWC:
            return str(last.input[0])
        before = graph.producer(last.input[0])
        if last.op_type in _HEADS and before is not None and attribute(before, "perm") == _TO_NHWC:
            return _append_head(graph, last.op_type, before.input[0])
        return _append(graph, "Transpose", [value], "output/planes", perm=_TO_NCHW)

    def _unsqueezed(self, graph: Graph) -> str:
        """Return (N, H, W) as (N, 1, H, W), by a node less where it was squeezed.

        TFLite has no such nodes. A sigmoid may come before the squeeze or behind it.
        """
        last = graph.producer(graph.output)
        assert last is not None
        if (planes := _squeezed_planes(graph, last)) is not None:
            return planes
        before = graph.producer(last.input[0]) if last.op_type == "Sigmoid" else None
        if before is not None and (planes := _squeezed_planes(graph, before)) is not None:
            return _append_head(graph, "Sigmoid", planes)
        axis = graph.add_constant("output/axis", np.array([1], np.int64))
        return _append(graph, "Unsqueeze", [graph.output, axis], "output/planes")


def _squeezed_planes(graph: Graph, node: onnx.NodeProto) -> str | None:
    """Return (N, 1, H, W) of a node that leaves its channels' axis out; None of another."""
    if node.op_type != "Squeeze" or len(node.input) < 2:
        return None
    axes = graph.constant(node.input[1])
    return str(node.input[0]) if axes is not None and axes.tolist() in ([1], [-3]) else None


def find_ending(model: onnx.ModelProto, classes: int) -> Ending:
    """Run the model and look at what it gives.

    Parameters
    ----------
    model : onnx.ModelProto
        uint8 (N, H, W, 3) in, any size.
    classes : int
        Number of classes, background included.

    Raises
    ------
    ExportError
        If it gives no map of the image's size, or decisions instead of probabilities.
    """
    graph = Graph(model)
    runs = any_size(model, [graph.output])
    results = {hw: run[graph.output] for hw, run in runs.items()}
    layout, channels = _layout(results)
    values = np.concatenate([np.ravel(result) for result in results.values()])
    _refuse_decisions(values)
    last = graph.producer(graph.output)
    if last is not None and last.op_type in _HEADS:
        head, added = _HEADS[last.op_type], None
    elif values.min() >= 0 and values.max() <= 1 + _ROUNDING:
        axis = {"planar": 1, "packed": 3}.get(layout)
        sums = [1.0] if axis is None else [result.sum(axis) for result in results.values()]
        shared = channels > 1 and all(np.abs(total - 1).max() < _ROUNDING for total in sums)
        head, added = "softmax" if shared else "sigmoid", None
        _LOG.info("its output lies in 0..1: taken for probabilities (%s)", head)
    else:
        added = "Softmax" if channels == classes else "Sigmoid"
        head = _HEADS[added]
        _LOG.info("its output is taken for logits: a %s is added", head)
        if head == "sigmoid" and values.min() >= 0:
            _LOG.warning(
                "its output lies in 0..%.3g, as logits hardly do: all of it is foreground. If "
                "these are probabilities, leave out what multiplies them.", values.max(),
            )  # fmt: skip
    if head == "softmax" and channels != classes:
        raise ExportError(
            "There must be a class a channel where a softmax shares them out. "
            f"Received: {classes} classes, {channels} channels.",
            hint="Name every class with --classes, background first.",
        )
    return Ending(channels, layout, head, added)


def _layout(results: dict[tuple[int, int], NDArray[Any]]) -> tuple[str, int]:
    fitting = {hw: _fitting_layouts(result, hw) for hw, result in results.items()}
    for layout in _LAYOUTS:
        if all(layout in layouts for layouts in fitting.values()):
            shape = next(iter(results.values())).shape
            return layout, {"planar": shape[1], "packed": shape[-1], "flat": 1}[layout]
    hw, result = min(results.items(), key=lambda item: len(fitting[item[0]]))  # one that fails
    raise ExportError(
        "A model must give a map as large as the image, whatever its size. "
        f"Received: {result.shape} for an image of {hw[0]} x {hw[1]} px.",
        hint="Bring a smaller map to the image's size inside the model; where sizes inside the "
        "graph are fixed, export it with dynamic axes.",
    )


def _fitting_layouts(result: NDArray[Any], hw: tuple[int, int]) -> list[str]:
    """Layouts in which a result is a map of an image's size."""
    return [
        layout
        for layout, (at, rank) in _LAYOUTS.items()
        if result.ndim == rank and result.shape[at : at + 2] == hw
    ]


def _refuse_decisions(values: NDArray[Any]) -> None:
    decided = values.dtype != np.float32 or np.isin(values, (0, 1)).all()
    if decided and values.min() < values.max():
        raise ExportError(
            "A model must give probabilities or logits. Received: decisions, "
            f"{values.dtype} of {values.min()} to {values.max()}.",
            hint="Export it without its argmax, threshold or cast.",
        )
    if values.dtype != np.float32:
        raise ExportError(f"A model must give float32. Received: {values.dtype}.")
    if not np.isfinite(values).all():
        raise ExportError("What a model gives must be finite. Received: NaN or infinity on noise.")


def _append_head(graph: Graph, op: str, value: str) -> str:
    axis = {"axis": 1} if op == "Softmax" else {}
    return _append(graph, op, [value], f"output/{_HEADS[op]}", **axis)


def _append(graph: Graph, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
    graph.model.graph.node.append(helper.make_node(op, inputs, [name], name, **attributes))
    return name
