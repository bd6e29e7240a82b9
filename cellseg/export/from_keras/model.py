"""A functional Keras model as an ONNX graph: uint8 NHWC in, float32 NHWC out, NCHW inside.

Only the plain translation happens here, layer by layer; what makes the graph fast is the work of
`cellseg.export.passes`, one at a time, each checked. One Transpose stands at the input (on bytes)
and one at the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from cellseg.errors import ExportError
from cellseg.export.from_keras.layers import convert_layer
from cellseg.export.onnx_graph.builder import INPUT, OUTPUT, GraphBuilder

if TYPE_CHECKING:
    import onnx

__all__ = ["onnx_from_keras"]


def onnx_from_keras(model: Any, whole_tile: bool = False) -> onnx.ModelProto:
    """Translate a functional (or sequential) Keras 3 model.

    Parameters
    ----------
    model : keras.Model
        One input, float32 (N, H, W, 3) with values 0..255. Several outputs are joined along the
        channels, in their order.
    whole_tile : bool
        Allow layers that look at the whole tile: tiles then differ from the whole image.

    Returns
    -------
    onnx.ModelProto
        Opset 17. ``image`` uint8 (N, H, W, 3), N, H and W dynamic, to ``probabilities`` float32
        (N, H, W, C); H and W must be multiples of the model's stride.

    Raises
    ------
    ExportError
        If the model is of another form, or a layer has no counterpart; the layer is named.
    """
    functional = _functional(model)
    _check_input(functional)
    channels = sum(_channels(tensor) for tensor in functional.outputs)
    builder = GraphBuilder(whole_tile)
    planar = builder.node("Transpose", [INPUT], "input/planar", perm=[0, 3, 1, 2])
    value = builder.node("Cast", [planar], "input/float", to=TensorProto.FLOAT)
    outputs = _convert_model(builder, functional, [value])
    joined = outputs[0]
    if len(outputs) > 1:
        joined = builder.node("Concat", outputs, "output/joined", axis=1)
    builder.node("Transpose", [joined], "output/packed", output=OUTPUT, perm=[0, 2, 3, 1])
    return builder.model(channels)


def _convert_model(builder: GraphBuilder, functional: Any, values: list[str]) -> list[str]:
    known = {id(tensor): value for tensor, value in zip(functional.inputs, values, strict=True)}
    return [_convert_tensor(builder, tensor, known) for tensor in functional.outputs]


def _convert_tensor(builder: GraphBuilder, tensor: Any, known: dict[int, str]) -> str:
    """Convert what a symbolic tensor comes from, and what that comes from, each once."""
    if id(tensor) not in known:
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        inputs = [_convert_tensor(builder, source, known) for source in node.input_tensors]
        outputs = _convert_operation(builder, history.operation, inputs)
        for made, output in zip(node.output_tensors, outputs, strict=True):
            known[id(made)] = output
    return known[id(tensor)]


def _convert_operation(builder: GraphBuilder, operation: Any, inputs: list[str]) -> list[str]:
    if hasattr(operation, "layers"):  # a model inside the model
        return _convert_model(builder, _functional(operation), inputs)
    return [convert_layer(builder, operation, inputs)]


def _functional(model: Any) -> Any:
    """Return the functional form, which is what a built Sequential holds inside."""
    functional = getattr(model, "_functional", model)
    if functional is None or not getattr(functional, "inputs", None):
        raise ExportError(
            "A model must be functional or a built Sequential. "
            f"Received: {type(model).__name__} {getattr(model, 'name', '')!r}.",
            hint="Build it with keras.Model(inputs, outputs).",
        )
    return functional


def _check_input(functional: Any) -> None:
    shapes = [tuple(tensor.shape) for tensor in functional.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] != 3:
        raise ExportError(
            f"A model must take one RGB image, (N, H, W, 3). Received: inputs of shape {shapes}.",
            hint="Put a layer in front that makes its channels of red, green and blue.",
        )


def _channels(tensor: Any) -> int:
    if len(tensor.shape) != 4 or tensor.shape[-1] is None:
        raise ExportError(
            "A model must give maps of shape (N, H, W, C). "
            f"Received: an output of shape {tuple(tensor.shape)}."
        )
    return int(tensor.shape[-1])
