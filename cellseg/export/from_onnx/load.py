"""Reads an ONNX file of the user's own: its weights, its opset, its constants.

What the file may be is decided here; how it takes and gives images is the work of
`cellseg.export.from_onnx.own_file`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, compose, helper, numpy_helper

from cellseg.errors import BundleError, ExportError
from cellseg.export.from_onnx.opset import opset_of, raised, respell
from cellseg.export.onnx_graph.builder import IR_VERSION, OPSET
from cellseg.export.onnx_graph.graph import Graph, attribute
from cellseg.export.passes.fold_constants import FoldConstants
from cellseg.runtime.bundles.onnx_file import read_onnx_facts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PREFIX", "load_onnx", "normalized"]

PREFIX = "net/"  # keeps the user's names and ours apart
_QUANTIZED = ("DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QuantizeLinear")
_OTHER_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read a file, and the file of weights beside it where it has one.

    Raises
    ------
    ExportError
        If it cannot be read, or has operators of another origin or other floats than float32.
    """
    try:
        data = path.read_bytes()
        facts = read_onnx_facts(data)
    except OSError as error:
        raise ExportError(f"The model must be readable. Received: {path} ({error}).") from error
    except BundleError as error:
        raise ExportError(f"{path.name} must be an ONNX file. Received: {error}") from error
    model = _with_weights(path) if facts.external_tensors else onnx.load_model_from_string(data)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _refuse_operators(model, set(facts.opsets) - {"", "ai.onnx"})
    _refuse_sparse(model)
    _refuse_other_floats(model)
    _refuse_training(model)
    return model


def _with_weights(path: Path) -> onnx.ModelProto:
    """Read a model whose weights lie in a file beside it; onnx keeps to its folder."""
    try:
        return onnx.load(path)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ExportError(
            "The weights must be in the model's file, or in the file beside it that it names. "
            f"Received: {path.name} ({error}).",
            hint="Copy the .data file too, or export with external_data=False.",
        ) from error


def _refuse_operators(model: onnx.ModelProto, foreign: set[str]) -> None:
    branches = [node for node in model.graph.node if node.op_type in ("If", "Loop", "Scan")]
    if branches:
        raise ExportError(
            "A model must compute the same for every image. Received: "
            f"{branches[0].name or branches[0].output[0]!r} ({branches[0].op_type}).",
            hint="Export it for one form of input, or take that branch out.",
        )
    quantized = [node for node in model.graph.node if node.op_type in _QUANTIZED]
    if quantized:
        raise ExportError(
            "A model must be float: int8 is made here, and measured. Received: "
            f"{quantized[0].name or quantized[0].output[0]!r} ({quantized[0].op_type}).",
            hint="Export the network as it was before it was quantized.",
        )
    odd = [
        node
        for node in model.graph.node
        if node.domain in foreign or not onnx.defs.has(node.op_type)
    ]
    if odd:
        operator = ".".join(filter(None, (odd[0].domain, odd[0].op_type)))
        raise ExportError(
            f"Every operator must be ONNX's own. Received: {odd[0].name or odd[0].output[0]!r} "
            f"({operator}).",
            hint="Export the network with that layer spelled out in operators of ONNX.",
        )


def _refuse_sparse(model: onnx.ModelProto) -> None:
    names = [item.values.name for item in model.graph.sparse_initializer]
    names += [
        node.name or node.output[0]
        for node in Graph(model).of_type("Constant")
        if attribute(node, "sparse_value") is not None
    ]
    if names:
        raise ExportError(
            f"Every constant must be a dense tensor. Received: {names[0]!r}, which is sparse.",
            hint="Make it dense before the export (weight.to_dense() in torch).",
        )


def _refuse_other_floats(model: onnx.ModelProto) -> None:
    found = next(_other_floats(Graph(model)), None)
    if found is not None:
        name, kind = found
        raise ExportError(
            "A model must compute in float32. "
            f"Received: {name!r} in {TensorProto.DataType.Name(kind)}.",
            hint="Export it in float32 (model.float() in torch); --precision fp16 makes a half "
            "precision file of that.",
        )


def _other_floats(graph: Graph) -> Iterator[tuple[str, int]]:
    """Name and type of what the image is computed with; what folds to a constant is not."""
    constants = [(item.name, item.name, item.data_type) for item in graph.model.graph.initializer]
    for node in graph.of_type("Constant"):
        value = attribute(node, "value")
        if value is not None:
            constants.append((node.name or node.output[0], node.output[0], value.data_type))
    known = {tensor for _, tensor, _ in constants}  # and what is computed of such alone
    for node in graph.nodes:
        operands = [name for name in node.input if name]
        if node.op_type in ("Constant", "Shape") or (operands and known.issuperset(operands)):
            known.update(node.output)
    for name, tensor, kind in constants:
        if kind in _OTHER_FLOATS and any(
            reader.op_type != "Cast" and not known.issuperset(reader.output)
            for reader in graph.consumers(tensor)
        ):
            yield name, kind
    for node in graph.of_type("Cast"):
        if attribute(node, "to") in _OTHER_FLOATS and not known.issuperset(node.output):
            yield node.name or node.output[0], attribute(node, "to")


def _refuse_training(model: onnx.ModelProto) -> None:
    for node in Graph(model).of_type("BatchNormalization"):
        if attribute(node, "training_mode", 0):
            raise ExportError(
                "A model must be exported for inference. Received: "
                f"{node.name or node.output[0]!r} (BatchNormalization) in training mode.",
                hint="model.eval() before the export, in torch.",
            )


def normalized(original: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model in our opset: names of its own, constants as such, what is constant computed.

    Raises
    ------
    ExportError
        If ONNX cannot convert it; the operator is named.
    """
    model = onnx.ModelProto()
    model.CopyFrom(original)
    del model.graph.value_info[:]
    for node in model.graph.node:
        while node.input and not node.input[-1]:
            del node.input[-1]  # an optional one that is left out: the same as none
    if opset_of(model) < OPSET:
        model = raised(model)
    model = compose.add_prefix(model, PREFIX, rename_nodes=False)
    del model.graph.value_info[:], model.opset_import[:], model.metadata_props[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.ir_version, model.producer_name = IR_VERSION, "cellseg"
    _constants_as_initializers(model)
    respell(Graph(model))
    _name_nodes(model)
    FoldConstants().apply(Graph(model))
    return model


def _constants_as_initializers(model: onnx.ModelProto) -> None:
    graph = Graph(model)
    for node in graph.of_type("Constant"):
        value = attribute(node, "value")
        if value is None:
            number: Any = np.asarray(helper.get_attribute_value(node.attribute[0]))
            narrowed = number.astype(np.float32) if number.dtype == np.float64 else number
            value = numpy_helper.from_array(narrowed)
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
        graph.replace(node, [])
    for node in graph.of_type("Identity", "Dropout"):
        if node.output[0] == graph.output:  # tf2onnx ends every model so
            model.graph.output[0].name = node.input[0]
        graph.bypass(node, node.input[0])


def _name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own; ONNX allows none, and the same twice."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type.lower()}_{index}"
        node.name = name if name not in taken else f"{name}_{index}"
        taken.add(node.name)
