"""What the layers of a network in OpenVINO's graph look at.

How far a window reaches past what is looked at follows from the layers after it: a tensor at 1/s of
the tile's resolution may begin at pixel ``unseen // s - reach``. A convolution adds its padding to
the reach; where the resolution doubles, the reach halves. A layer that is not known here ends the
search.

Windows of what a joint puts together begin at multiples of the blocks of pixels that layers right
before it make, so that those layers can be computed for the window alone (`way_up`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Key",
    "Layer",
    "Way",
    "Window",
    "Windows",
    "after",
    "images",
    "is_joint",
    "is_read_once",
    "key",
    "layer_of",
    "way_up",
    "windows_of",
]

# One value out for the values at the same place.
# fmt: off
_POINTWISE = frozenset((
    "Abs", "Add", "Clamp", "Convert", "Divide", "Elu", "Exp", "FakeQuantize", "Gelu", "HSigmoid",
    "HSwish", "Maximum", "Minimum", "Multiply", "Negative", "Power", "PRelu", "Relu", "Sigmoid",
    "Sqrt", "Subtract", "Swish", "Tanh",
))
# fmt: on
_OVER_CHANNELS = frozenset(("ReduceMax", "ReduceSum"))
_NHWC = [0, 2, 3, 1]


@dataclass(frozen=True)
class Window:
    """What the output needs of a tensor."""

    scale: int = 1
    """Pixels of the tile for one of the tensor, along an axis."""

    reach: int = 0
    """Pixels of the tensor that are needed beyond those that are looked at."""

    step: int = 1
    """Pixels of the tensor of which it begins and ends at multiples."""

    def start(self, unseen_px: int) -> int:
        """How many pixels can be left out on a side of which so much is not looked at."""
        return max(0, unseen_px // self.scale - self.reach) // self.step * self.step


@dataclass(frozen=True)
class Layer:
    """A layer that looks at no more than the surroundings of a place."""

    reach: int = 0
    finer: int = 1
    step: int = 1

    @property
    def is_by_place(self) -> bool:
        """Whether a value comes of those at its own place, whatever is beside it."""
        return self.reach == 0

    def window(self, after: Window) -> Window:
        """Return what it needs of its input for a window of its output."""
        reach, step = after.reach, max(1, after.step // self.finer)
        if self.reach or after.step not in (1, step * self.finer):
            reach, step = reach + after.step - 1, 1  # as far as the multiple before can be
        reach = -(-reach // self.finer) + self.reach
        return Window(after.scale * self.finer, reach, math.lcm(step, self.step))


Key = tuple[str, int]
"""A tensor: name of the node that makes it, and which of its outputs it is."""

Windows = dict[Key, "Window | None"]


def windows_of(nodes: list[Any]) -> Windows:
    """Find what the output needs of each tensor, from the output upwards; None: all of it."""
    found: Windows = {}
    for node in reversed(nodes):
        is_last = node.get_type_name() == "Result"
        after = Window() if is_last else found.get(key(node.output(0)))
        layer = layer_of(node)
        needed = None if after is None or layer is None else layer.window(after)
        for source in images(node):
            place = key(source)
            found[place] = _both(found[place], needed) if place in found else needed
    return found


def _both(one: Window | None, other: Window | None) -> Window | None:
    """Return the window that holds two of one tensor."""
    if one is None or other is None or one.scale != other.scale:
        return None
    return Window(one.scale, max(one.reach, other.reach), math.lcm(one.step, other.step))


def layer_of(node: Any) -> Layer | None:
    """Describe a layer; None for one that is not known to look at surroundings only."""
    kind, traits = node.get_type_name(), node.get_attributes()
    if kind in _POINTWISE or kind == "Result":
        return Layer() if all(map(_is_same_everywhere, _others(node))) else None
    if is_joint(node):
        return Layer(step=math.lcm(*(way_up(source).finer for source in images(node))))
    if kind in _OVER_CHANNELS:
        return Layer() if traits["keep_dims"] and _constant(node, 1) == [1] else None
    if kind == "Softmax":
        return Layer() if traits["axis"] in (1, -3) else None
    if kind == "Transpose":  # to the output's layout: the last layer
        return Layer() if _constant(node, 1) == _NHWC else None
    if kind in ("Convolution", "GroupConvolution"):
        return _convolution(node, traits)
    if kind == "ConvolutionBackpropData":
        return _spreading(node, traits)
    if kind == "DepthToSpace":
        return Layer(finer=traits["block_size"])
    return None


def _convolution(node: Any, traits: dict[str, Any]) -> Layer | None:
    """Describe a convolution that keeps the size of what it sees."""
    kernel = list(node.input(1).get_shape())[-2:]
    reach = [(size - 1) * step for size, step in zip(kernel, traits["dilations"], strict=True)]
    keeps_size = traits["pads_begin"] == traits["pads_end"] == [px // 2 for px in reach]
    if traits["strides"] != [1, 1] or not keeps_size or any(px % 2 for px in reach):
        return None
    return Layer(reach=max(reach) // 2)


def _spreading(node: Any, traits: dict[str, Any]) -> Layer | None:
    """Describe a transposed convolution that makes a block of pixels of each."""
    kernel, strides = list(node.input(1).get_shape())[-2:], traits["strides"]
    is_block = kernel == strides == [strides[0]] * 2 and not any(
        traits["pads_begin"] + traits["pads_end"] + traits["output_padding"]
    )
    return Layer(finer=strides[0]) if is_block else None


@dataclass(frozen=True)
class Way:
    """Layers in a row, each the only reader of the one before, that see no more than a place."""

    source: Any
    """The tensor that the first of them reads."""

    layers: tuple[Any, ...]
    """Nodes, in order; none where the tensor itself is where the way ends."""

    finer: int
    """Pixels of the last one's output for one of the source, along an axis."""


def way_up(tensor: Any) -> Way:
    """Find the way on which a tensor was made; a window of it can be cut from the source."""
    layers: list[Any] = []
    while is_read_once(tensor) and _knows_its_place(tensor.get_node()):
        layers.append(tensor.get_node())
        tensor = images(layers[-1])[0]
    while is_read_once(tensor) and layers and layers[-1].get_type_name() in _POINTWISE:
        tensor = layers.pop().output(0)  # OpenVINO computes it with what is before it
    described = [layer_of(layer) for layer in layers]
    return Way(tensor, tuple(reversed(layers)), math.prod(one.finer for one in described if one))


def _knows_its_place(node: Any) -> bool:
    """Whether a node makes one tensor of one, of each place by itself."""
    if is_joint(node) or len(node.outputs()) != 1 or len(images(node)) != 1:
        return False
    layer = layer_of(node)
    return layer is not None and layer.is_by_place


def is_read_once(tensor: Any) -> bool:
    """Whether one node reads a tensor's values; a shape is asked for its rank only."""
    readers = [port.get_node().get_type_name() for port in tensor.get_target_inputs()]
    return len([kind for kind in readers if kind != "ShapeOf"]) == 1


def after(node: Any, nodes: list[Any]) -> list[Any]:
    """Return a node and all that depend on it, in order."""
    found, made = [node], set(map(key, node.outputs()))
    for other in nodes:
        if any(key(source) in made for source in other.input_values()):
            found.append(other)
            made.update(map(key, other.outputs()))
    return found


def is_joint(node: Any) -> bool:
    """Whether a node joins images along their channels."""
    if node.get_type_name() != "Concat" or node.get_attributes()["axis"] not in (1, -3):
        return False
    return len(images(node)) == len(node.inputs())


def images(node: Any) -> list[Any]:
    """Return the tensors of pixels that a node reads, not its weights and other constants."""
    kind = node.get_type_name()
    if kind == "ShapeOf":  # of use for its rank only to the layers that are known here
        return []
    ports = node.inputs()[:1] if "Convolution" in kind else node.inputs()
    return [source for port in ports if _is_image(source := port.get_source_output())]


def _is_image(tensor: Any) -> bool:
    shape = tensor.get_partial_shape()
    if len(shape) != 4 or tensor.get_node().get_type_name() == "Constant":
        return False
    return not (_is_one(shape[2]) and _is_one(shape[3]))


def _others(node: Any) -> list[Any]:
    """Return the tensors that a node reads besides those of pixels, as they meet pixels."""
    if node.get_type_name() == "PRelu":  # its slopes are of channels
        return []
    read = set(map(key, images(node)))
    return [source for source in node.input_values() if key(source) not in read]


def _is_same_everywhere(tensor: Any) -> bool:
    shape = tensor.get_partial_shape()
    first = max(0, len(shape) - 2)  # a list of the sides would take 20 times as long
    return all(_is_one(shape[axis]) for axis in range(first, len(shape)))


def _is_one(side: Any) -> bool:
    return bool(side.is_static and side.get_length() == 1)


def _constant(node: Any, number: int) -> list[int] | None:
    source = node.input_value(number).get_node()
    return None if source.get_type_name() != "Constant" else source.get_vector().tolist()


def key(output: Any) -> Key:
    """Return what a tensor is known by."""
    return output.get_node().get_friendly_name(), output.get_index()
