"""Normalizations and the mean over a tile, from Keras to ONNX (NCHW)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.export.from_keras.common import array, by_channel, refused, require_channel_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.export.onnx_graph.builder import GraphBuilder

__all__ = ["batch_norm", "global_average_pool", "group_norm", "layer_norm", "normalization"]


def batch_norm(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Convert BatchNormalization, whose statistics are fixed after training."""
    require_channel_axis(layer)
    mean, variance = array(layer.moving_mean), array(layer.moving_variance)
    gamma = array(layer.gamma) if layer.scale else np.ones_like(mean)
    beta = array(layer.beta) if layer.center else np.zeros_like(mean)
    parts = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    operands = [builder.constant(value, f"{layer.name}/{key}") for key, value in parts.items()]
    return builder.node(
        "BatchNormalization", [*inputs, *operands], layer.name, epsilon=float(layer.epsilon)
    )


def layer_norm(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Convert LayerNormalization over the channels of each pixel."""
    require_channel_axis(layer)
    name = layer.name
    mean = builder.node("ReduceMean", inputs, f"{name}/mean", axes=[1])
    centred = builder.node("Sub", [*inputs, mean], f"{name}/centred")
    squared = builder.node("Mul", [centred, centred], f"{name}/squared")
    variance = builder.node("ReduceMean", [squared], f"{name}/variance", axes=[1])
    epsilon = builder.constant(np.array(layer.epsilon, np.float32), f"{name}/epsilon")
    spread = builder.node("Add", [variance, epsilon], f"{name}/above_zero")
    spread = builder.node("Sqrt", [spread], f"{name}/spread")
    output = builder.node("Div", [centred, spread], name)
    return _scaled(builder, layer, output)


def group_norm(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Convert GroupNormalization with a group a channel, which is instance normalization."""
    require_channel_axis(layer)
    channels = int(layer.input.shape[-1])
    if layer.groups not in (-1, channels):
        raise refused(layer, "groups", "-1, a group a channel")
    gamma = array(layer.gamma) if layer.scale else np.ones(channels, np.float32)
    beta = array(layer.beta) if layer.center else np.zeros(channels, np.float32)
    operands = [
        builder.constant(gamma, f"{layer.name}/gamma"),
        builder.constant(beta, f"{layer.name}/beta"),
    ]
    return builder.node(
        "InstanceNormalization", [*inputs, *operands], layer.name, epsilon=float(layer.epsilon)
    )


def normalization(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Convert Normalization: fixed mean and variance of each channel."""
    channels = int(layer.input.shape[-1])
    mean = np.broadcast_to(array(layer.mean).ravel(), channels)
    spread = np.sqrt(np.broadcast_to(array(layer.variance).ravel(), channels))
    spread = np.maximum(spread, 1e-7)
    if layer.invert:
        raise refused(layer, "invert", "False")
    factor = np.asarray(1 / spread, np.float32)
    return _affine(builder, layer.name, inputs[0], factor, np.asarray(-mean * factor, np.float32))


def global_average_pool(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Convert the mean over the tile; it stays a map of one pixel, whatever ``keepdims`` says."""
    return builder.node("GlobalAveragePool", inputs, layer.name)


def _scaled(builder: GraphBuilder, layer: Any, value: str) -> str:
    channels = int(layer.input.shape[-1])
    gamma = array(layer.gamma) if layer.scale else np.ones(channels, np.float32)
    beta = array(layer.beta) if layer.center else np.zeros(channels, np.float32)
    return _affine(builder, f"{layer.name}/scaled", value, gamma, beta)


def _affine(
    builder: GraphBuilder,
    name: str,
    value: str,
    factor: NDArray[np.float32],
    offset: NDArray[np.float32],
) -> str:
    for op, numbers, neutral in (("Mul", factor, 1.0), ("Add", offset, 0.0)):
        if (numbers != neutral).any():
            key = f"{name}/{op.lower()}"
            by = builder.constant(by_channel(numbers), f"{key}/by")
            value = builder.node(op, [value, by], key)
    return value
