"""Writes newer operators of ONNX in opset 17, which parsers on Jetson read.

What opsets 18 to 20 changed is mostly how an operator is spelled: axes became an operand, and new
attributes say what 17 does anyway. The converter of the onnx package leaves out some of these
(Split, means with axes), and those are what torch writes by default. The parity check that follows
holds whatever is done here to account.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper, version_converter

from cellseg.errors import ExportError
from cellseg.export.from_onnx.shapes import whole_tile_error
from cellseg.export.onnx_graph.builder import OPSET
from cellseg.export.onnx_graph.graph import Graph, attribute, set_attributes

__all__ = ["opset_of", "raised", "respell"]

_HINT = f"torch.onnx.export(..., opset_version={OPSET}, dynamo=False) writes it."
_LAST_CORNERS = 10  # the last opset whose Resize and Upsample count pixels from their corners
_NEW = {  # attributes of 18 and later
    "AveragePool": ("dilations",), "Cast": ("saturate",), "Split": ("num_outputs",),
    "Resize": ("antialias", "axes", "keep_aspect_ratio_policy"),
}  # fmt: skip


def opset_of(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    return int(opsets.get("", opsets.get("ai.onnx", 0)))


def raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a model of an older opset.

    Raises
    ------
    ExportError
        If the onnx package cannot.
    """
    try:
        found = version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ExportError(
            f"A model must be of opset {OPSET}, or convertible to it. Received: {reason}.",
            hint=_HINT,
        ) from error
    if opset_of(model) <= _LAST_CORNERS:
        _place_by_corners(found)
    return found


def _place_by_corners(model: onnx.ModelProto) -> None:
    """Say of each Resize what its opset meant; the converter leaves it to 17's default."""
    for node in Graph(model).of_type("Resize"):
        meant = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        others = [item for item in node.attribute if item.name not in meant]
        said = [helper.make_attribute(name, value) for name, value in meant.items()]
        set_attributes(node, [*others, *said])


def respell(graph: Graph) -> None:
    """Write operators of a later opset as 17 has them, in place; constants must be initializers.

    Raises
    ------
    ExportError
        If 17 has no such operator; it is named.
    """
    for node in graph.nodes:
        if node.op_type == "Gelu":
            graph.replace(node, _gelu(graph, node))
        elif node.op_type == "Mish":
            soft, bent = (f"{node.output[0]}/{part}" for part in ("soft", "bent"))
            parts = [("Softplus", [node.input[0]], soft), ("Tanh", [soft], bent)]
            parts.append(("Mul", [node.input[0], bent], node.output[0]))
            graph.replace(node, [_node(*part) for part in parts])
        elif node.op_type == "GroupNormalization":
            raise whole_tile_error(node)
        elif not onnx.defs.has(node.op_type, OPSET):
            raise ExportError(
                f"A model must be of opset {OPSET}, or convertible to it. "
                f"Received: {node.name or node.output[0]!r} ({node.op_type}), which is newer.",
                hint=_HINT,
            )
        else:
            _respell_resize(graph, node)
            _respell_attributes(graph, node)
            _respell_pads(graph, node)


def _respell_attributes(graph: Graph, node: onnx.NodeProto) -> None:
    kept = [item for item in node.attribute if item.name not in _NEW.get(node.op_type, ())]
    if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum":
        kept = [item for item in kept if item.name != "noop_with_empty_axes"]
        if len(node.input) > 1:
            axes = graph.constant(node.input[1])
            if axes is None:
                raise ExportError(f"Axes must be constant. Received: {node.name!r}.")
            kept.append(helper.make_attribute("axes", [int(axis) for axis in axes]))
            del node.input[1:]
    set_attributes(node, kept)


def _respell_resize(graph: Graph, node: onnx.NodeProto) -> None:
    """Say the factors of all four axes; for whole ones two ways to place pixels are one."""
    if node.op_type != "Resize":
        return
    scales = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    axes = attribute(node, "axes")
    if axes is not None:
        if scales is None:
            raise ExportError(
                f"A Resize of some axes must say its factors. Received: {node.name!r}, with sizes."
            )
        every = np.ones(4, np.float32)
        every[list(axes)] = scales
        node.input[2] = graph.add_constant(f"{node.output[0]}/scales", every)
    for item in node.attribute:
        if item.s == b"half_pixel_symmetric":
            if scales is None or (np.round(scales) != scales).any():
                raise ExportError(
                    f"half_pixel_symmetric must go with whole factors. Received: {node.name!r}."
                )
            item.s = b"half_pixel"


def _respell_pads(graph: Graph, node: onnx.NodeProto) -> None:
    """Say the pads of all four axes, where those of some are given."""
    if node.op_type != "Pad" or len(node.input) < 4:
        return
    pads, axes = (graph.constant(node.input[place]) for place in (1, 3))
    if pads is None or axes is None:
        raise ExportError(f"What is added must be constant. Received: {node.name!r}.")
    every = np.zeros((2, 4), np.int64)
    every[:, axes] = pads.reshape(2, -1)
    node.input[1] = graph.add_constant(f"{node.output[0]}/pads", every.ravel())
    del node.input[3:]


def _gelu(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Spell out ``x / 2 * (1 + erf(x / sqrt 2))``, or its approximation by a tanh."""
    (x,), result = node.input, node.output[0]

    def number(value: float) -> str:
        return graph.add_constant(f"{result}/number", np.array(value, np.float32))

    names = {part: f"{result}/{part}" for part in "abcdefg"}
    a, b, c, d, e, f, g = names.values()
    if attribute(node, "approximate", b"none") == b"tanh":
        inner = [
            ("Mul", [x, x], a), ("Mul", [a, number(0.044715)], b), ("Add", [b, number(1.0)], c),
            ("Mul", [c, x], d), ("Mul", [d, number(math.sqrt(2 / math.pi))], e), ("Tanh", [e], f),
        ]  # fmt: skip
    else:
        inner = [("Mul", [x, number(math.sqrt(0.5))], e), ("Erf", [e], f)]
    outer = [
        ("Add", [f, number(1.0)], g), ("Mul", [g, number(0.5)], f"{result}/h"),
        ("Mul", [x, f"{result}/h"], result),
    ]  # fmt: skip
    return [_node(*part) for part in (*inner, *outer)]


def _node(op: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], output)
