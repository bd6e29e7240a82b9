"""An ONNX file of the user's own, brought into the form of our graphs.

What differs in form is adapted: a float input, NCHW or NHWC, a fixed size, logits, another opset,
constants as nodes. What differs in substance is refused by name: more than one image or result, a
custom operator, weights in another file, a layer that looks at the whole tile, a shape that is
computed while the network runs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from cellseg.errors import ExportError
from cellseg.export.from_onnx.ending import Ending, find_ending
from cellseg.export.from_onnx.load import PREFIX, load_onnx, normalized
from cellseg.export.from_onnx.shapes import refuse_whole_tile, run_session, session_of, settle_sizes
from cellseg.export.onnx_graph.builder import INPUT
from cellseg.export.onnx_graph.graph import Graph, attribute
from cellseg.export.passes import run_pass
from cellseg.export.passes.spell_out_windows import SpellOutWindows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

__all__ = ["InputRange", "OnnxSource", "read_onnx"]

_LOG = logging.getLogger(__name__)
_TO_NHWC, _TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
_IDENTITY = {"Mul": 1.0, "Add": 0.0}
_PACKED = "input/packed"


@dataclass(frozen=True)
class OnnxSource:
    """The user's model in our form, and as it was."""

    model: onnx.ModelProto
    """uint8 ``image`` (N, H, W, 3) to float32 ``probabilities`` (N, H, W, C)."""

    channels: int
    """Output channels."""

    head: str
    """``softmax`` or ``sigmoid``."""

    predict: Predict
    """The file as it was, fed as it wants to be: uint8 (h, w, 3) to float32 (h, w, C)."""

    hw: tuple[int, int] | None
    """The only size that the file takes; None: any."""


@dataclass(frozen=True)
class InputRange:
    """What a float input gets: ``scale * byte + offset``, one number or one a channel."""

    scale: tuple[float, ...] = (1 / 255,)
    offset: tuple[float, ...] = (0.0,)
    is_told: bool = True
    """False: nobody said so."""

    def __post_init__(self) -> None:
        for name, numbers in (("input_scale", self.scale), ("input_offset", self.offset)):
            if len(numbers) not in (1, 3) or not np.isfinite(numbers).all():
                raise ExportError(
                    f"{name} must be one number, or one each for red, green and blue. "
                    f"Received: {name}={[*numbers]}."
                )
        if not all(self.scale):
            raise ExportError(f"input_scale must not be 0. Received: {[*self.scale]}.")

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scale an image, (h, w, 3)."""
        scaled = image * np.array(self.scale, np.float32) + np.array(self.offset, np.float32)
        return np.asarray(scaled, np.float32)

    def __str__(self) -> str:
        ends = [np.multiply(byte, self.scale) + np.array(self.offset) for byte in (0, 255)]
        low, high = (" ".join(f"{number:.3g}" for number in np.unique(end)) for end in ends)
        told = (
            ""
            if self.is_told
            else ("; if it was trained on other values, say --input-scale and --input-offset")
        )
        return f"the float input gets bytes as {low} .. {high}{told}"


@dataclass(frozen=True)
class _Form:
    """How the user's model takes and gives images."""

    input: str
    output: str
    planar: bool
    """NCHW input."""
    is_float: bool
    hw: tuple[int, int] | None


def read_onnx(path: Path, classes: int, given: InputRange, whole_tile: bool = False) -> OnnxSource:
    """Read an ONNX file and adapt it.

    Parameters
    ----------
    path : Path
        The file.
    classes : int
        Number of classes, background included: with one channel less, it is what is left.
    given : InputRange
        What a float input gets.
    whole_tile : bool
        Allow layers that look at the whole tile, where their effect can be measured.

    Raises
    ------
    ExportError
        If the model cannot be adapted; what stands in the way is named.
    """
    original = load_onnx(path)
    form = _form(original)
    if form.is_float:
        _LOG.log(logging.INFO if given.is_told else logging.WARNING, "%s", given)
    model = _opened(original, form, given)
    settle_sizes(model, form.hw)
    refuse_whole_tile(model, whole_tile)
    ending = find_ending(model, classes)
    ending.apply(model)
    model = run_pass(SpellOutWindows(), model).model
    predict = _original_predict(original, form, given, ending)
    return OnnxSource(model, ending.channels, ending.head, predict, form.hw)


def _form(model: onnx.ModelProto) -> _Form:
    weights = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    outputs = list(model.graph.output)
    for noun, found in (("image", inputs), ("result", outputs)):
        if len(found) != 1:
            raise ExportError(
                f"A model must have one {noun}. "
                f"Received: {len(found)}, {', '.join(repr(item.name) for item in found)}.",
                hint="Cut the graph with onnx.utils.extract_model.",
            )
    kind = inputs[0].type.tensor_type
    sizes = [dim.dim_value for dim in kind.shape.dim]  # 0 where it is free
    if len(sizes) != 4 or 3 not in (sizes[1], sizes[3]):
        raise ExportError(
            "A model must take RGB images, (N, 3, H, W) or (N, H, W, 3). "
            f"Received: {inputs[0].name!r} of shape {_shape(kind)}.",
            hint="Put a layer in front that makes its channels of red, green and blue.",
        )
    if kind.elem_type not in (TensorProto.FLOAT, TensorProto.UINT8):
        raise ExportError(
            "A model must take float32 or uint8. Received: "
            f"{inputs[0].name!r} of type {TensorProto.DataType.Name(kind.elem_type)}."
        )
    if sizes[0] > 1:
        raise ExportError(
            f"A model must take one image, or any number. Received: {sizes[0]} at a time.",
            hint="Export it for one image, or with the first axis dynamic.",
        )
    planar = sizes[1] == 3
    height, width = sizes[2:] if planar else sizes[1:3]
    hw = (height, width) if height and width else None
    return _Form(inputs[0].name, outputs[0].name, planar, kind.elem_type == TensorProto.FLOAT, hw)


def _shape(kind: Any) -> list[Any]:
    return [dim.dim_param or dim.dim_value for dim in kind.shape.dim]


def _opened(original: onnx.ModelProto, form: _Form, given: InputRange) -> onnx.ModelProto:
    """Copy the model with our input and free sizes."""
    model = normalized(original)
    _begin(model, form, given)
    Graph(model).drop_unused()
    return model


def _begin(model: onnx.ModelProto, form: _Form, given: InputRange) -> None:
    """Put our input in front: bytes, planes, float, scaled."""
    graph, source = Graph(model), PREFIX + form.input
    nodes = [
        helper.make_node("Transpose", [INPUT], ["input/planar"], "input/planar", perm=_TO_NCHW),
        helper.make_node("Cast", ["input/planar"], ["input/float"], "input/float", to=1),
    ]
    value = "input/float"
    for op, numbers in (("Mul", given.scale), ("Add", given.offset)) if form.is_float else ():
        if any(number != _IDENTITY[op] for number in numbers):
            factor = np.array(numbers, np.float32).reshape(-1, 1, 1)
            by = graph.add_constant(f"input/{op.lower()}_by", factor)
            name = f"input/{op.lower()}"
            nodes.append(helper.make_node(op, [value, by], [name], name))
            value = name
    if not form.planar:
        packed = helper.make_node("Transpose", [value], [_PACKED], _PACKED, perm=_TO_NHWC)
        nodes.append(packed)
    _lead_in(graph, form, source, value)
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    image = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", "H", "W", 3])
    del model.graph.input[:]
    model.graph.input.append(image)


def _lead_in(graph: Graph, form: _Form, source: str, value: str) -> None:
    """Let those who read the user's image read ours, which is float and NCHW.

    A Cast of bytes and a Transpose to NCHW that come at once are dropped; who reads float NHWC
    gets it by a Transpose back.
    """
    for node in graph.consumers(source):
        if not form.planar and attribute(node, "perm") == _TO_NCHW:
            inner = replace(form, planar=True)
        elif not form.is_float and attribute(node, "to") == TensorProto.FLOAT:
            inner = replace(form, is_float=True)
        elif form.is_float:
            _rewire(node, source, value if form.planar else _PACKED)
            continue
        else:
            raise ExportError(
                "A uint8 image must be cast to float, at once or after a transpose to NCHW. "
                f"Received: {node.name!r} ({node.op_type}) reads it.",
                hint="Export the model with a float32 input, (N, 3, H, W).",
            )
        _lead_in(graph, inner, node.output[0], value)
        graph.replace(node, [])


def _rewire(node: onnx.NodeProto, old: str, new: str) -> None:
    places = [place for place, name in enumerate(node.input) if name == old]
    for place in places:
        node.input[place] = new


def _original_predict(
    original: onnx.ModelProto, form: _Form, given: InputRange, ending: Ending
) -> Predict:
    session = session_of(original)

    def predict(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        feed: Any = given.apply(tile) if form.is_float else tile
        image = np.ascontiguousarray((feed.transpose(2, 0, 1) if form.planar else feed)[np.newaxis])
        return ending.finish(run_session(session, {form.input: image})[0])

    return predict
