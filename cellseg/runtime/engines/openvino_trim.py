r"""A UNet in OpenVINO's graph that leaves out what is not looked at, and ends in bands of rows.

At each concatenation of a decoder, where a skip meets what comes from below, both inputs are cut to
the window that the output needs; every layer after it is computed on that window alone. How much is
cut is an input of the model, so that one compiled model serves tiles inside a slide and those at
its border, which have a halo on some of their sides only::

        skip  --[cut]--.                                                 .-- band of output
                        concat - conv - conv - finer --[cut]--.         /
        below --[cut]--'                                       concat - - -- band of output
                                              next skip --[cut]--'      \
                                                                         '-- band of output

What follows the last concatenation is the widest part of a network: at the finest resolution it
holds several tensors at once, each larger than the tile. It is copied for each band of the rows,
with cuts of its own, so that those tensors are never there for more than a band. The convolutions
of a band see some rows of its neighbours (computed twice), which are cut away after the last one;
the bands' outputs are then parts of one array, and nothing is put together.

What is computed stays the same to the last bit, since a convolution adds the same values up in the
same order wherever its window lies. `cellseg.runtime.engines.openvino_layers` knows what layers
look at; of a graph that holds others nothing is cut.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.engines.openvino_layers import (
    Key,
    Window,
    images,
    is_joint,
    key,
    layer_of,
    windows_of,
)
from cellseg.runtime.engines.untold import untold
from cellseg.runtime.trim import Sides

with untold():
    from openvino import opset13
    from openvino.utils.node_factory import NodeFactory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["BAND_PX", "Trimmer", "make_trimmable"]

BAND_PX = 256
"""Rows of a tile for each band. Fewer save little more, and compute more rows twice."""

_TO_THE_END = np.iinfo(np.int32).max  # OpenVINO computes with bounds in 32 bits
_LAST_STEPS = ("DepthToSpace", "Softmax", "Transpose", "Result")  # after the last convolution
_FEW = 512  # values of a bias


@dataclass(frozen=True)
class _Place:
    """Where a tensor begins in the tile: at a cut, and how much finer it has become since."""

    cut: Window
    finer: int = 1

    def start(self, unseen_px: int) -> int:
        return self.cut.start(unseen_px) * self.finer


@dataclass(frozen=True)
class _Edge:
    """A tensor that is cut."""

    window: Window
    """What is left of it."""

    before: _Place | None
    """How it was cut before."""

    def bounds(self, unseen: Sides, unseen_before: Sides) -> list[tuple[int, int]]:
        """Return where its window begins, and where it ends, along y and x."""
        top, bottom, left, right = (
            self.window.start(px) - (self.before.start(px_before) if self.before else 0)
            for px, px_before in zip(unseen, unseen_before, strict=True)
        )
        return [(top, left), (-bottom or _TO_THE_END, -right or _TO_THE_END)]


@dataclass(frozen=True)
class Trimmer:
    """What to put into a model with cuts, and where its outputs belong."""

    coarse: tuple[_Edge, ...]
    """Cuts before the last joint."""

    joint: tuple[_Edge, ...]
    """Cuts of a band at the last joint."""

    end: _Edge
    """Cut of a band after its last convolution."""

    output: _Place
    """Where the output begins."""

    tile_h: int
    """Rows of a tile."""

    bands: int
    """Outputs of the model, from top to bottom."""

    def cuts(self, unseen: Sides) -> NDArray[np.int64]:
        """Return the model's further inputs, shape (n, 2).

        For each edge where its window begins, and where it ends, along y and x.
        """
        rows = [row for edge in self.coarse for row in edge.bounds(unseen, unseen)]
        for band in self._bands(unseen):
            rows += [row for edge in self.joint for row in edge.bounds(band, unseen)]
            rows += self.end.bounds(band, band)
        return np.array(rows, np.int64)

    def left_out(self, unseen: Sides) -> Sides:
        """Return what the output lacks on each side."""
        return Sides(*map(self.output.start, unseen))

    def rows(self, unseen: Sides) -> list[slice]:
        """Return which rows of the output each band computes."""
        top, height = self.output.start(unseen.top), self.tile_h
        return [
            slice(self.output.start(band.top) - top, height - self.output.start(band.bottom) - top)
            for band in self._bands(unseen)
        ]

    def _bands(self, unseen: Sides) -> list[Sides]:
        """Divide what is looked at; where it has fewer rows than bands, some bands are the same."""
        step = self.end.window.scale
        first, stop = unseen.top // step, (self.tile_h - unseen.bottom - 1) // step + 1
        marks = [first + (stop - first) * number // self.bands for number in range(self.bands + 1)]
        ends = [max(mark, before + 1) for before, mark in itertools.pairwise(marks)]
        return [
            unseen._replace(top=mark * step, bottom=self.tile_h - end * step)
            for mark, end in zip(marks, ends, strict=False)
        ]


def make_trimmable(model: Any) -> Trimmer | None:
    """Cut the decoder of a model; it then has further inputs, and an output for each band.

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
    windows = windows_of(nodes)
    joints = [node for node in nodes if is_joint(node) and windows.get(key(node.output(0)))]
    if not joints:
        return None
    chain = _after(joints[-1], nodes)
    end = _last_convolved(chain)
    end_window = windows.get(key(end))
    if end_window is None:
        return None
    cut = {key(node.output(0)): windows[key(node.output(0))] for node in joints}
    try:
        before_end = _places(nodes, cut).get(key(end))
        places = _places(nodes, {**cut, key(end): end_window})
    except _NotLocalError:
        return None
    output = places.get(key(model.get_results()[0].input_value(0)))
    if output is None or before_end is None:
        return None

    def edges(joint: Any) -> list[_Edge]:
        window = windows[key(joint.output(0))]
        assert window is not None  # or it would not be among the joints
        sources = [port.get_source_output() for port in joint.inputs()]
        return [_Edge(window, places.get(key(source))) for source in sources]

    tile_h = int(model.input(0).get_shape()[1])
    trimmer = Trimmer(
        coarse=tuple(edge for joint in joints[:-1] for edge in edges(joint)),
        joint=tuple(edges(joints[-1])),
        end=_Edge(end_window, before_end),
        output=output,
        tile_h=tile_h,
        bands=1 if _is_quantized(chain) else -(-tile_h // BAND_PX),
    )
    _cut(model, joints[:-1], chain, end, trimmer.bands)
    return trimmer


class _Cuts:
    """Slices, whose bounds become inputs of the model."""

    def __init__(self) -> None:
        self.bounds: list[Any] = []
        self._ones, self._axes = (
            opset13.constant(np.array(values, np.int64)) for values in ((1, 1), (2, 3))
        )

    def of(self, source: Any) -> Any:
        """Return the window of a tensor."""
        begin, end = (opset13.parameter([2], np.int64) for _ in range(2))
        self.bounds += [begin, end]
        return opset13.slice(source, begin, end, self._ones, self._axes).output(0)


def _cut(model: Any, coarse: list[Any], chain: list[Any], end: Any, bands: int) -> None:
    """Cut what goes into the coarse joints, and put bands in place of what follows the last."""
    cuts = _Cuts()
    for joint in coarse:
        for port in joint.inputs():
            port.replace_source_output(cuts.of(port.get_source_output()))
    results = [_band(chain, end, cuts) for _ in range(bands)]
    model.remove_result(model.get_results()[0])
    model.add_results(results)
    model.add_parameters(cuts.bounds)
    model.validate_nodes_and_infer_types()


def _band(chain: list[Any], end: Any, cuts: _Cuts) -> Any:
    """Copy the last joint and what follows it, with cuts of its own; return its result."""
    made: dict[Key, Any] = {}
    factory = NodeFactory("opset13")
    for node in chain:
        inputs = [_own_bias(source) or made.get(key(source), source) for source in _sources(node)]
        if node is chain[0]:
            inputs = [cuts.of(source) for source in inputs]
        if node.get_type_name() == "Result":
            return opset13.result(inputs[0])
        copy = factory.create(node.get_type_name(), inputs, node.get_attributes())
        for before, after in zip(node.outputs(), copy.outputs(), strict=True):
            made[key(before)] = cuts.of(after) if key(before) == key(end) else after
    raise AssertionError("the chain ends with the model's result")


def _own_bias(source: Any) -> Any | None:
    """Return a copy of a bias; OpenVINO adds in a convolution only what no other layer adds."""
    shape, node = source.get_partial_shape(), source.get_node()
    if node.get_type_name() == "Reshape":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or not shape.is_static or len(shape) != 4:
        return None
    if source.get_element_type().is_integral() or node.data.size > _FEW:
        return None
    return opset13.constant(node.data.reshape(shape.to_shape())).output(0)


def _after(joint: Any, nodes: list[Any]) -> list[Any]:
    """Return a node and all that depend on it, in order."""
    found, made = [joint], {key(joint.output(0))}
    for node in nodes:
        if any(key(source) in made for source in _sources(node)):
            found.append(node)
            made.update(map(key, node.outputs()))
    return found


def _is_quantized(chain: list[Any]) -> bool:
    """Whether tensors hold a byte a value: bands then save little, and take 5 % longer."""
    return any(node.get_type_name() == "FakeQuantize" for node in chain)


def _last_convolved(chain: list[Any]) -> Any:
    """Return the tensor that the last convolution makes, with bias and activation."""
    kinds = [node.get_type_name() for node in chain]
    last = max((number for number, kind in enumerate(kinds) if "Convolution" in kind), default=0)
    step = next(node for node in chain[last + 1 :] if node.get_type_name() in _LAST_STEPS)
    return step.input_value(0)


def _sources(node: Any) -> list[Any]:
    return list(node.input_values())


def _places(nodes: list[Any], cut: Mapping[Key, Window | None]) -> dict[Key, _Place]:
    """Find where each tensor begins once some are cut, from the input downwards.

    Raises
    ------
    _NotLocalError
        If a tensor that was cut meets one that was not, or a layer that looks at all of it.
    """
    found: dict[Key, _Place] = {}
    for node in nodes:
        for output in node.outputs():
            window = cut.get(key(output))
            place = _place_after(node, found) if window is None else _Place(window)
            if place is not None:
                found[key(output)] = place
    return found


def _place_after(node: Any, places: dict[Key, _Place]) -> _Place | None:
    before = {places.get(key(source)) for source in images(node)} or {None}
    if before == {None}:
        return None
    layer, place = layer_of(node), before.pop()
    if before or layer is None or place is None:
        raise _NotLocalError
    return _Place(place.cut, place.finer * layer.finer)


class _NotLocalError(Exception):
    """The graph is more than this module understands."""
