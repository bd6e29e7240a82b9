"""The network as a torch module, read from the planar ONNX file: equal weights, torch's own layers.

Only the layers that this network has. Runs in the environment of a contestant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

Tensor = torch.Tensor


class OnnxNetwork(torch.nn.Module):
    """Runs the nodes of a graph one after the other; (N, 3, H, W) to (N, 2, H, W)."""

    def __init__(self, path: str) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self.nodes = [_Node(node) for node in graph.node]
        self.source, self.target = graph.input[0].name, graph.output[0].name
        self.constants: dict[str, Tensor] = {
            item.name: torch.from_numpy(numpy_helper.to_array(item).copy())
            for item in graph.initializer
        }

    def forward(self, image: Tensor) -> Tensor:
        """Return the probabilities of background and foreground."""
        values = {**self.constants, self.source: image}
        for node in self.nodes:
            values[node.output] = LAYERS[node.kind](node, *(values[n] for n in node.inputs))
            for name in node.last_use:
                values.pop(name, None)
        return values[self.target]


class _Node:
    def __init__(self, node: Any) -> None:
        self.kind, self.inputs, self.output = node.op_type, list(node.input), node.output[0]
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self.last_use: list[str] = []


def load_network(path: str) -> OnnxNetwork:
    """Read a network that lets go of each value after its last use."""
    network = OnnxNetwork(path)
    seen: set[str] = {network.target, *network.constants}
    for node in reversed(network.nodes):
        node.last_use = [name for name in dict.fromkeys(node.inputs) if name not in seen]
        seen.update(node.inputs)
    return network.eval()


def _conv(node: _Node, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
    stride = tuple(node.attributes.get("strides", (1, 1)))
    if (top, left) == (bottom, right):
        return functional.conv2d(x, kernel, bias, stride, (top, left))
    return functional.conv2d(functional.pad(x, (left, right, top, bottom)), kernel, bias, stride)


def _depth_to_space(node: _Node, x: Tensor) -> Tensor:
    side = node.attributes["blocksize"]
    n, c, h, w = x.shape
    blocks = x.reshape(n, side, side, c // side**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // side**2, h * side, w * side)


def _slice(_: _Node, x: Tensor, start: Tensor, end: Tensor, axis: Tensor) -> Tensor:
    return x.narrow(int(axis), int(start), int(end - start))


LAYERS: dict[str, Callable[..., Tensor]] = {
    "Conv": _conv,
    "Relu": lambda _, x: functional.relu(x, inplace=False),
    "MaxPool": lambda node, x: functional.max_pool2d(x, node.attributes["kernel_shape"][0]),
    "DepthToSpace": _depth_to_space,
    "Concat": lambda node, *xs: torch.cat(xs, node.attributes["axis"]),
    "ReduceMax": lambda node, x: x.amax(node.attributes["axes"], keepdim=True),
    "ReduceSum": lambda _, x, axes: x.sum(tuple(axes.tolist()), keepdim=True),
    "Sub": lambda _, a, b: a - b,
    "Exp": lambda _, x: x.exp(),
    "Div": lambda _, a, b: a / b,
    "Slice": _slice,
}
