"""A UNet in OpenVINO's graph that leaves out what is not looked at.

At each concatenation of a decoder, where a skip meets what comes from below, both inputs are cut to
the window that the output needs; every layer after it is computed on that window alone. How much is
cut is an input of the model, so that one compiled model serves tiles inside a slide and those at
its border, which have a halo on some of their sides only::

        skip  --[cut]--.
                        concat - conv - conv - finer --[cut]--.
        below --[cut]--'                                       concat - conv - conv - output
                                              next skip --[cut]--'

How far a window reaches past what is looked at follows from the layers after it: a tensor at 1/s of
the tile's resolution may begin at pixel ``unseen // s - reach``. A convolution adds its padding to
the reach; where the resolution doubles, the reach halves. A layer that is not known here ends the
search: nothing above it is cut. What is computed stays the same to the last bit, since a
convolution adds the same values up in the same order wherever its window lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.engines.untold import untold
from cellseg.runtime.trim import Sides

with untold():
    from openvino import opset13

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Trimmer", "make_trimmable"]

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
_TO_THE_END = np.iinfo(np.int32).max  # OpenVINO computes with bounds in 32 bits


@dataclass(frozen=True)
class _Window:
    """What the output needs of a tensor."""

    scale: int = 1
    """Pixels of the tile for one of the tensor, along an axis."""

    reach: int = 0
    """Pixels of the tensor that are needed beyond those that are looked at."""

    def start(self, unseen_px: int) -> int:
        """How many pixels can be left out on a side of which so much is not looked at."""
        return max(0, unseen_px // self.scale - self.reach)


@dataclass(frozen=True)
class _Place:
    """Where a tensor begins in the tile: at a cut, and how much finer it has become since."""

    cut: _Window
    finer: int = 1

    def start(self, unseen_px: int) -> int:
        return self.cut.start(unseen_px) * self.finer


@dataclass(frozen=True)
class _Layer:
    """A layer that looks at no more than the surroundings of a place."""

    reach: int = 0
    finer: int = 1

    def window(self, after: _Window) -> _Window:
        """Return what it needs of its input for a window of its output."""
        return _Window(after.scale * self.finer, -(-after.reach // self.finer) + self.reach)


@dataclass(frozen=True)
class Trimmer:
    """What to put into a model with cuts, and where its output then begins."""

    edges: tuple[tuple[_Window, _Place | None], ...]
    """What is left of each tensor that is cut, and how it was cut before."""

    output: _Place
    """Where the output begins."""

    def cuts(self, unseen: Sides) -> NDArray[np.int64]:
        """Return the model's second input, shape (2 * edges, 2).

        For each edge where its window begins, and where it ends, along y and x.
        """
        rows: list[tuple[int, int]] = []
        for window, before in self.edges:
            top, bottom, left, right = (
                window.start(px) - (before.start(px) if before else 0) for px in unseen
            )
            rows += [(top, left), (-bottom or _TO_THE_END, -right or _TO_THE_END)]
        return np.array(rows, np.int64)

    def left_out(self, unseen: Sides) -> Sides:
        """Return what the output lacks on each side."""
        return Sides(*map(self.output.start, unseen))


_Key = tuple[str, int]
_Windows = dict[_Key, "_Window | None"]
_Places = dict[_Key, _Place]


def make_trimmable(model: Any) -> Trimmer | None:
    """Cut the decoder of a model; it then has a second input.

    Parameters
    ----------
    model : openvino.Model
        Of one static input shape, output NHWC. Edited in place where there is something to cut.

    Returns
    -------
    Trimmer or None
        None where there is nothing to cut.
    """
    nodes = model.get_ordered_ops()
    windows = _windows(nodes)
    joints = {_key(node.output(0)): node for node in nodes if _is_joint(node)}
    cut = {key: window for key in joints if (window := windows.get(key)) is not None}
    try:
        places = _places(nodes, cut)
    except _NotLocalError:
        return None
    output = places.get(_key(model.get_results()[0].input_value(0)))
    if output is None:
        return None
    ports = [(port, window) for key, window in cut.items() for port in joints[key].inputs()]
    edges = tuple((window, places.get(_key(port.get_source_output()))) for port, window in ports)
    _cut(model, [port for port, _ in ports])
    return Trimmer(edges, output)


def _cut(model: Any, ports: list[Any]) -> None:
    """Put a slice before each of these ports, with bounds from new inputs of the model."""
    ones, axes = (opset13.constant(np.array(values, np.int64)) for values in ((1, 1), (2, 3)))
    bounds = []
    for port in ports:
        begin, end = (opset13.parameter([2], np.int64) for _ in range(2))
        window = opset13.slice(port.get_source_output(), begin, end, ones, axes)
        port.replace_source_output(window.output(0))
        bounds += [begin, end]
    model.add_parameters(bounds)
    model.validate_nodes_and_infer_types()


def _windows(nodes: list[Any]) -> _Windows:
    """Find what the output needs of each tensor, from the output upwards; None: all of it."""
    found: _Windows = {}
    for node in reversed(nodes):
        is_last = node.get_type_name() == "Result"
        after = _Window() if is_last else found.get(_key(node.output(0)))
        layer = _layer(node)
        needed = None if after is None or layer is None else layer.window(after)
        for source in _images(node):
            key = _key(source)
            found[key] = _both(found[key], needed) if key in found else needed
    return found


def _both(one: _Window | None, other: _Window | None) -> _Window | None:
    """Return the window that holds two of one tensor."""
    if one is None or other is None or one.scale != other.scale:
        return None
    return _Window(one.scale, max(one.reach, other.reach))


def _places(nodes: list[Any], cut: Mapping[_Key, _Window]) -> _Places:
    """Find where each tensor begins once its joint is cut, from the input downwards.

    Raises
    ------
    _NotLocalError
        If a tensor that was cut meets one that was not, or a layer that looks at all of it.
    """
    found: _Places = {}
    for node in nodes:
        for output in node.outputs():
            window = cut.get(_key(output))
            place = _place_after(node, found) if window is None else _Place(window)
            if place is not None:
                found[_key(output)] = place
    return found


def _place_after(node: Any, places: _Places) -> _Place | None:
    before = {places.get(_key(source)) for source in _images(node)} or {None}
    if before == {None}:
        return None
    layer, place = _layer(node), before.pop()
    if before or layer is None or place is None:
        raise _NotLocalError
    return _Place(place.cut, place.finer * layer.finer)


class _NotLocalError(Exception):
    """The graph is more than this module understands."""


def _layer(node: Any) -> _Layer | None:
    """Describe a layer; None for one that is not known to look at surroundings only."""
    kind, traits = node.get_type_name(), node.get_attributes()
    if kind in _POINTWISE or kind == "Result" or _is_joint(node):
        return _Layer()
    if kind in _OVER_CHANNELS:
        return _Layer() if traits["keep_dims"] and _constant(node, 1) == [1] else None
    if kind == "Softmax":
        return _Layer() if traits["axis"] in (1, -3) else None
    if kind == "Transpose":  # to the output's layout: the last layer
        return _Layer() if _constant(node, 1) == _NHWC else None
    if kind in ("Convolution", "GroupConvolution"):
        return _convolution(node, traits)
    if kind == "ConvolutionBackpropData":
        return _spreading(node, traits)
    if kind == "DepthToSpace":
        return _Layer(finer=traits["block_size"])
    return None


def _convolution(node: Any, traits: dict[str, Any]) -> _Layer | None:
    """Describe a convolution that keeps the size of what it sees."""
    kernel = list(node.input(1).get_shape())[-2:]
    reach = [(size - 1) * step for size, step in zip(kernel, traits["dilations"], strict=True)]
    keeps_size = traits["pads_begin"] == traits["pads_end"] == [px // 2 for px in reach]
    if traits["strides"] != [1, 1] or not keeps_size or any(px % 2 for px in reach):
        return None
    return _Layer(reach=max(reach) // 2)


def _spreading(node: Any, traits: dict[str, Any]) -> _Layer | None:
    """Describe a transposed convolution that makes a block of pixels of each."""
    kernel, strides = list(node.input(1).get_shape())[-2:], traits["strides"]
    is_block = kernel == strides == [strides[0]] * 2 and not any(
        traits["pads_begin"] + traits["pads_end"] + traits["output_padding"]
    )
    return _Layer(finer=strides[0]) if is_block else None


def _is_joint(node: Any) -> bool:
    """Whether a node joins images along their channels."""
    if node.get_type_name() != "Concat" or node.get_attributes()["axis"] not in (1, -3):
        return False
    return len(_images(node)) == len(node.inputs())


def _images(node: Any) -> list[Any]:
    """Return the tensors of pixels that a node reads, not its weights and other constants."""
    kind = node.get_type_name()
    if kind == "ShapeOf":  # of use for its rank only to the layers that are known here
        return []
    ports = node.inputs()[:1] if "Convolution" in kind else node.inputs()
    return [source for port in ports if _is_image(source := port.get_source_output())]


def _is_image(tensor: Any) -> bool:
    shape = tensor.get_partial_shape()
    is_constant = tensor.get_node().get_type_name() == "Constant"
    return not is_constant and len(shape) == 4 and list(shape.to_shape())[2:] != [1, 1]


def _constant(node: Any, number: int) -> list[int] | None:
    source = node.input_value(number).get_node()
    return None if source.get_type_name() != "Constant" else source.get_vector().tolist()


def _key(output: Any) -> _Key:
    return output.get_node().get_friendly_name(), output.get_index()
