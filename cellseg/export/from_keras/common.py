"""What converters of Keras layers share: reading weights, activations, refusals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.export.onnx_graph.builder import GraphBuilder

__all__ = [
    "BY_ONNX",
    "activate",
    "array",
    "at_most",
    "by_channel",
    "named",
    "refused",
    "require_channel_axis",
]

BY_ONNX = (
    "pip install tf2onnx, call the model once on an image, write "
    "model.export('model.onnx', format='onnx'), and export that file, with --input-scale 1 if it "
    "scales inside."
)
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "elu": ("Elu", {"alpha": 1.0}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "relu": ("Relu", {}),
    "relu6": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {"axis": 1}),
    "tanh": ("Tanh", {}),
}


def _silu(builder: GraphBuilder, value: str, name: str) -> str:
    """X * sigmoid(x)."""
    gate = builder.node("Sigmoid", [value], f"{name}/gate")
    return builder.node("Mul", [value, gate], f"{name}/silu")


def _mish(builder: GraphBuilder, value: str, name: str) -> str:
    """X * tanh(log(1 + exp(x)))."""
    soft = builder.node("Softplus", [value], f"{name}/softplus")
    gate = builder.node("Tanh", [soft], f"{name}/gate")
    return builder.node("Mul", [value, gate], f"{name}/mish")


def _hard_silu(builder: GraphBuilder, value: str, name: str) -> str:
    """X * clip(x / 6 + 1/2, 0, 1)."""
    gate = builder.node("HardSigmoid", [value], f"{name}/gate", alpha=1 / 6, beta=0.5)
    return builder.node("Mul", [value, gate], f"{name}/hard_silu")


def _gelu(builder: GraphBuilder, value: str, name: str) -> str:
    """X / 2 * (1 + erf(x / sqrt(2))); opset 17 has no operator of its own."""
    scaled = _by(builder, "Mul", value, 1 / math.sqrt(2), f"{name}/scaled")
    gate = builder.node("Erf", [scaled], f"{name}/erf")
    half = _by(builder, "Mul", _by(builder, "Add", gate, 1.0, f"{name}/up"), 0.5, f"{name}/gate")
    return builder.node("Mul", [value, half], f"{name}/gelu")


_GATED = {"gelu": _gelu, "hard_silu": _hard_silu, "mish": _mish, "silu": _silu, "swish": _silu}


def activate(builder: GraphBuilder, layer: Any, value: str) -> str:
    """Add the layer's activation function.

    Raises
    ------
    ExportError
        If it has no counterpart; the known ones are named.
    """
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name in ("linear", "None"):
        return value
    if name in _GATED:
        return _GATED[name](builder, value, layer.name)
    if name not in _ACTIVATIONS:
        raise refused(layer, "activation", f"one of {[*_ACTIVATIONS, *_GATED, 'linear']}")
    op, attributes = _ACTIVATIONS[name]
    output = builder.node(op, [value], f"{layer.name}/{name}", **attributes)
    return at_most(builder, output, 6.0) if name == "relu6" else output


def _by(builder: GraphBuilder, op: str, value: str, number: float, name: str) -> str:
    factor = builder.constant(np.array(number, np.float32), f"{name}/by")
    return builder.node(op, [value, factor], name)


def by_channel(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape one number a channel so that it meets NCHW: (C, 1, 1)."""
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def at_most(builder: GraphBuilder, value: str, limit: float) -> str:
    """Cut a value off above a limit."""
    upper = builder.constant(np.array(limit, np.float32), f"{value}/limit")
    return builder.node("Clip", [value, "", upper], f"{value}/clip")


def array(variable: Any) -> NDArray[np.float32]:
    """Copy a variable of any backend."""
    from keras import ops

    return np.asarray(ops.convert_to_numpy(variable), np.float32)


def require_channel_axis(layer: Any) -> None:
    """Refuse a layer that works along another axis than the channels."""
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    if axis not in (-1, 3):
        raise refused(layer, "axis", "the last")


def refused(layer: Any, setting: str, rule: str) -> ExportError:
    """Say which setting of which layer has no counterpart."""
    return ExportError(
        f"{setting} must be {rule}. "
        f"Received: {named(layer)} with {setting}={getattr(layer, setting)!r}."
    )


def named(layer: Any) -> str:
    """Name a layer and its type."""
    return f"{layer.name!r} ({type(layer).__name__})"
