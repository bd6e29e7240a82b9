"""An ONNX file of the user's own, brought into the form of our graphs.

What differs in form is adapted: a float input, NCHW or NHWC, a fixed size, logits, another opset,
constants as nodes. What differs in substance is refused by name: more than one image or result, a
custom operator, weights in another file, a layer that looks at the whole tile, a shape that is
computed while the network runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from cellseg.errors import BundleError, ExportError
from cellseg.export.builder import INPUT, IR_VERSION, OPSET, OUTPUT
from cellseg.export.graph import Graph, attribute
from cellseg.export.passes import run_pass
from cellseg.export.passes.spell_out_windows import SpellOutWindows
from cellseg.runtime.onnx_file import read_onnx_facts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

__all__ = ["OnnxSource", "read_onnx"]

_PREFIX = "net/"  # keeps the user's names and ours apart
_TO_NHWC, _TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
_WHOLE_TILE = {
    "InstanceNormalization", "GroupNormalization", "LayerNormalization", "GlobalAveragePool",
    "GlobalMaxPool", "ReduceMean", "LpNormalization", "MeanVarianceNormalization",
}  # fmt: skip
_TRIAL_PX = 256


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
class _Form:
    """How the user's model takes and gives images."""

    input: str
    output: str
    planar: bool
    """NCHW input."""
    is_float: bool
    hw: tuple[int, int] | None


def read_onnx(path: Path, classes: int, scale: float, offset: float) -> OnnxSource:
    """Read an ONNX file and adapt it.

    Parameters
    ----------
    path : Path
        The file.
    classes : int
        Number of classes, background included: with one channel less, it is what is left.
    scale, offset : float
        A float input gets ``scale * byte + offset``.

    Raises
    ------
    ExportError
        If the model cannot be adapted; what stands in the way is named.
    """
    original = _load(path)
    form = _form(original)
    _refuse_whole_tile(original)
    model = _opened(original, form, scale, offset)
    channels, planar = _output_layout(model, form)
    softmax = channels == classes
    ending = _Ending(planar, "Softmax" if softmax else "Sigmoid")
    ending.apply(model)
    head = ending.head
    _declare_output(model, channels)
    model = run_pass(SpellOutWindows(), model).model
    return OnnxSource(
        model, channels, head, _original_predict(original, form, scale, offset, ending), form.hw
    )


def _load(path: Path) -> onnx.ModelProto:
    try:
        data = path.read_bytes()
        facts = read_onnx_facts(data)
    except OSError as error:
        raise ExportError(f"The model must be readable. Received: {path} ({error}).") from error
    except BundleError as error:
        raise ExportError(f"{path.name} must be an ONNX file. Received: {error}") from error
    if facts.external_tensors:
        raise ExportError(
            "A model must hold its own weights. "
            f"Received: {path.name} with external data for {facts.external_tensors[0]!r}.",
            hint="onnx.save(onnx.load(path), path) puts them into the file.",
        )
    foreign = sorted(set(facts.opsets) - {"", "ai.onnx"})
    model = onnx.load_model_from_string(data)
    odd = [node for node in model.graph.node if node.domain in foreign]
    if odd:
        raise ExportError(
            f"Every operator must be ONNX's own. Received: {odd[0].name or odd[0].output[0]!r} "
            f"({odd[0].domain}.{odd[0].op_type})."
        )
    return model


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
            f"Received: {inputs[0].name!r} of shape {_shape(kind)}."
        )
    if kind.elem_type not in (TensorProto.FLOAT, TensorProto.UINT8):
        raise ExportError(
            "A model must take float32 or uint8. Received: "
            f"{inputs[0].name!r} of type {TensorProto.DataType.Name(kind.elem_type)}."
        )
    planar = sizes[1] == 3
    height, width = sizes[2:] if planar else sizes[1:3]
    hw = (height, width) if height and width else None
    return _Form(inputs[0].name, outputs[0].name, planar, kind.elem_type == TensorProto.FLOAT, hw)


def _shape(kind: Any) -> list[Any]:
    return [dim.dim_param or dim.dim_value for dim in kind.shape.dim]


def _refuse_whole_tile(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type in _WHOLE_TILE:
            raise ExportError(
                "A layer must not look at the whole tile: it makes seams that no halo mends. "
                f"Received: {node.name or node.output[0]!r} ({node.op_type}).",
                hint="Use BatchNormalization, whose statistics are fixed after training.",
            )


def _opened(original: onnx.ModelProto, form: _Form, scale: float, offset: float) -> onnx.ModelProto:
    """Copy the model with our input, free sizes, our opset, and constants as such."""
    model = onnx.ModelProto()
    model.CopyFrom(original)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("", opsets.get("ai.onnx")) != OPSET:
        model = _converted(model)
    model = compose.add_prefix(model, _PREFIX, rename_nodes=False)
    del model.graph.value_info[:], model.opset_import[:], model.metadata_props[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.ir_version, model.producer_name = IR_VERSION, "cellseg"
    _constants_as_initializers(model)
    _begin(model, form, scale, offset)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{index}"
    return model


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ExportError(
            f"A model must be of opset {OPSET}, or convertible to it. Received: {error}."
        ) from error


def _constants_as_initializers(model: onnx.ModelProto) -> None:
    graph = Graph(model)
    for node in graph.of_type("Constant"):
        value = attribute(node, "value")
        if value is None:
            number = node.attribute[0]
            value = numpy_helper.from_array(np.asarray(helper.get_attribute_value(number)))
            if value.data_type == TensorProto.DOUBLE:
                value = numpy_helper.from_array(numpy_helper.to_array(value).astype(np.float32))
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
        graph.replace(node, [])
    for node in graph.of_type("Identity", "Dropout"):
        if node.output[0] != graph.output:
            graph.bypass(node, node.input[0])


def _begin(model: onnx.ModelProto, form: _Form, scale: float, offset: float) -> None:
    """Put our input in front: bytes, planes, float, scaled."""
    graph, source = Graph(model), _PREFIX + form.input
    nodes = [
        helper.make_node("Transpose", [INPUT], ["input/planar"], "input/planar", perm=_TO_NCHW),
        helper.make_node("Cast", ["input/planar"], ["input/float"], "input/float", to=1),
    ]
    steps = (("Mul", scale, 1.0), ("Add", offset, 0.0)) if form.is_float else ()
    value = "input/float"
    for op, number, neutral in steps:
        if number != neutral:
            factor = np.full((1, 1, 1), number, np.float32)
            by = graph.add_constant(f"input/{op.lower()}_by", factor)
            name = f"input/{op.lower()}"
            nodes.append(helper.make_node(op, [value, by], [name], name))
            value = name
    _lead_in(graph, form, source, value)
    for offset_at, node in enumerate(nodes):
        model.graph.node.insert(offset_at, node)
    image = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", "H", "W", 3])
    del model.graph.input[:]
    model.graph.input.append(image)


def _lead_in(graph: Graph, form: _Form, source: str, value: str) -> None:
    """Let those who read the user's image read ours, which is float and NCHW."""
    for node in graph.consumers(source):
        drop = (not form.is_float and node.op_type == "Cast") or (
            not form.planar and node.op_type == "Transpose"
        )
        if drop and not form.planar and node.op_type == "Cast":
            _lead_in(graph, form, node.output[0], value)
            graph.replace(node, [])
        elif drop:
            for after in graph.consumers(node.output[0]):
                if not form.is_float and after.op_type == "Cast":
                    graph.bypass(after, node.output[0])
            graph.bypass(node, value)
        elif form.planar and form.is_float:
            places = [i for i, name in enumerate(node.input) if name == source]
            for index in places:
                node.input[index] = value
        else:
            raise ExportError(
                "An NHWC or uint8 image must be transposed or cast at once. "
                f"Received: {node.name!r} ({node.op_type}) reads it.",
                hint="Export the model with a float32 input, (N, 3, H, W).",
            )


def _output_layout(model: onnx.ModelProto, form: _Form) -> tuple[int, bool]:
    """Run the model at two sizes; channels, and whether they come first."""
    found = []
    for height, width in ((_TRIAL_PX, _TRIAL_PX), (_TRIAL_PX, 2 * _TRIAL_PX)):
        image = np.zeros((1, height, width, 3), np.uint8)
        shape = _run_shape(model, image)
        planar = len(shape) == 4 and shape[2:] == (height, width)
        if not planar and (len(shape) != 4 or shape[1:3] != (height, width)):
            raise ExportError(
                "A model must give a map as large as the image, whatever its size. "
                f"Received: {shape} for an image of {height} x {width} px.",
                hint="Sizes inside the graph must not be fixed: export it with dynamic axes.",
            )
        found.append((shape[1] if planar else shape[3], planar))
    return found[0]


def _run_shape(model: onnx.ModelProto, image: NDArray[np.uint8]) -> tuple[int, ...]:
    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    name = trial.graph.output[0].name
    del trial.graph.output[:]
    trial.graph.output.append(onnx.ValueInfoProto(name=name))
    (result,) = _run(trial, {INPUT: image})
    return tuple(result.shape)


def _run(model: onnx.ModelProto, feed: dict[str, Any]) -> list[Any]:
    session = _session(model)
    try:
        return list(session.run(None, feed))
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise ExportError(
            "A model must run on images of any size that its stride divides. "
            f"Received: {str(error).splitlines()[0]}",
            hint="Sizes inside the graph must not be fixed: export it with dynamic axes.",
        ) from error


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # as in `_run`
        raise ExportError(
            f"ONNX Runtime must be able to load the model. Received: {error}."
        ) from error


class _Ending:
    """The last nodes: probabilities, NHWC."""

    def __init__(self, planar: bool, wanted: str) -> None:
        self._planar, self._wanted = planar, wanted
        self.added: str | None = None
        self.head = wanted.lower()

    def apply(self, model: onnx.ModelProto) -> None:
        """Leave out a Transpose to NHWC, add what makes probabilities of logits, add our own."""
        graph = Graph(model)
        value = graph.output
        last = graph.producer(value)
        if not self._planar:
            if last is None or last.op_type != "Transpose" or attribute(last, "perm") != _TO_NHWC:
                raise ExportError(
                    "An NHWC result must come from a Transpose. Received: "
                    f"{last.op_type if last else 'nothing'}.",
                    hint="Export the model with a result of (N, C, H, W).",
                )
            value = last.input[0]
            last = graph.producer(value)
        if last is not None and last.op_type in ("Softmax", "Sigmoid"):
            self.head = last.op_type.lower()
        else:
            self.added = self._wanted
            name = f"output/{self.head}"
            node = helper.make_node(self._wanted, [value], [name], name)
            if self._wanted == "Softmax":
                node.attribute.append(helper.make_attribute("axis", 1))
            model.graph.node.append(node)
            value = name
        node = helper.make_node("Transpose", [value], [OUTPUT], "output/packed", perm=_TO_NHWC)
        model.graph.node.append(node)

    def finish(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Do the same to what the original gave, (1, C, H, W) or (1, H, W, C)."""
        packed = values[0].transpose(1, 2, 0) if self._planar else values[0]
        if self.added == "Sigmoid":
            packed = 1 / (1 + np.exp(-packed))
        elif self.added == "Softmax":
            powers = np.exp(packed - packed.max(-1, keepdims=True))
            packed = powers / powers.sum(-1, keepdims=True)
        return np.asarray(packed, np.float32)


def _declare_output(model: onnx.ModelProto, channels: int) -> None:
    shape: list[str | int | None] = ["N", "H", "W", channels]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))
    Graph(model).drop_unused()


def _original_predict(
    original: onnx.ModelProto, form: _Form, scale: float, offset: float, ending: _Ending
) -> Predict:
    session = _session(original)

    def predict(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        image = tile[np.newaxis]
        if form.planar:
            image = image.transpose(0, 3, 1, 2)
        feed: Any = np.ascontiguousarray(image)
        if form.is_float:
            feed = feed.astype(np.float32) * np.float32(scale) + np.float32(offset)
        return ending.finish(session.run(None, {form.input: feed})[0])

    return predict
