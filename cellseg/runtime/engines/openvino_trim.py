r"""A UNet in OpenVINO's graph that leaves out what is not looked at, and ends in bands of rows.

At each concatenation of a decoder, where a skip meets what comes from below, both inputs are cut to
the window that the output needs; every layer after it is computed on that window alone. So are the
layers right before it that see no more than their place: what doubles the resolution is cut before
it does. How much is cut is an input of the model, so that one compiled model serves tiles inside a
slide and those at its border, which have a halo on some of their sides only::

        skip  --[cut]---------.                                           .-- band of output
                               concat - conv - conv --[cut]-- finer -.   /
        below --[cut]-- finer -'                                  concat ---- band of output
                                            next skip --[cut]--------'   \
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
    Way,
    Window,
    after,
    images,
    is_joint,
    key,
    layer_of,
    way_up,
    windows_of,
)
from cellseg.runtime.engines.trim import Sides
from cellseg.runtime.engines.untold import untold

with untold():
    from openvino import opset13
    from openvino.utils.node_factory import NodeFactory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cellseg.runtime.engines.openvino_layers import Windows

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

    finer: int = 1
    """Pixels of the window for one of the tensor, along an axis."""

    def bounds(self, unseen: Sides, unseen_before: Sides) -> list[tuple[int, int]]:
        """Return where its window begins, and where it ends, along y and x."""
        top, bottom, left, right = (
            self.window.start(px) // self.finer
            - (self.before.start(px_before) if self.before else 0)
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

    end: _Edge | None
    """Cut of a band after its last convolution; None where there is one band only."""

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
            rows += self.end.bounds(band, band) if self.end else []
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
        if self.end is None:
            return [unseen]
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
    nodes = after(model.input(0).get_node(), model.get_ordered_ops())  # without weights
    windows = windows_of(nodes)
    joints = [node for node in nodes if is_joint(node) and windows.get(key(node.output(0)))]
    if not joints:
        return None
    chain = after(joints[-1], nodes)
    bands = 1 if _is_quantized(chain) else -(-int(model.input(0).get_shape()[1]) // BAND_PX)
    try:
        trimmer = _trimmer(model, nodes, windows, joints, _last_convolved(chain), bands)
    except _NotLocalError:
        return None
    _cut(model, joints[:-1], chain, trimmer)
    return trimmer


def _trimmer(
    model: Any, nodes: list[Any], windows: Windows, joints: list[Any], end: Any, bands: int
) -> Trimmer:
    """Say what is cut where.

    Raises
    ------
    _NotLocalError
        If the output cannot be told from a part.
    """
    cut = {key(joint.output(0)): _window_of_inputs(joint, windows) for joint in joints}
    before_end, end_window = _places(nodes, cut).get(key(end)), windows.get(key(end))
    if bands > 1 and end_window is not None:
        cut[key(end)] = end_window
    places = _places(nodes, cut)
    output = places.get(key(model.get_results()[0].input_value(0)))
    if output is None or before_end is None or end_window is None:
        raise _NotLocalError

    def edges(joint: Any) -> list[_Edge]:
        window = cut[key(joint.output(0))]
        return [_Edge(window, places.get(key(way.source)), way.finer) for way in _ways(joint)]

    return Trimmer(
        coarse=tuple(edge for joint in joints[:-1] for edge in edges(joint)),
        joint=tuple(edges(joints[-1])),
        end=_Edge(end_window, before_end) if bands > 1 else None,
        output=output,
        tile_h=int(model.input(0).get_shape()[1]),
        bands=bands,
    )


def _window_of_inputs(joint: Any, windows: Windows) -> Window:
    layer, window = layer_of(joint), windows[key(joint.output(0))]
    assert layer is not None  # or it would not be
    assert window is not None  # among the joints
    return layer.window(window)


def _ways(joint: Any) -> list[Way]:
    """Return how each tensor was made that a joint puts together."""
    return [way_up(port.get_source_output()) for port in joint.inputs()]


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


def _cut(model: Any, coarse: list[Any], chain: list[Any], trimmer: Trimmer) -> None:
    """Cut what goes into the coarse joints, and put bands in place of what follows the last."""
    cuts = _Cuts()
    for joint in coarse:
        for way, port in zip(_ways(joint), joint.inputs(), strict=True):
            first = _reader_of(way.source, way.layers[0]) if way.layers else port
            first.replace_source_output(cuts.of(way.source))
    ways = _ways(chain[0])
    end = _last_convolved(chain) if trimmer.end else None
    results = [_band(ways, chain, end, cuts) for _ in range(trimmer.bands)]
    model.remove_result(model.get_results()[0])
    model.add_results(results)
    model.add_parameters(cuts.bounds)
    model.validate_nodes_and_infer_types()


def _reader_of(tensor: Any, node: Any) -> Any:
    """Return the port of a node by which it reads a tensor."""
    return next(port for port in node.inputs() if key(port.get_source_output()) == key(tensor))


def _band(ways: list[Way], chain: list[Any], end: Any | None, cuts: _Cuts) -> Any:
    """Copy the last joint with what is right before and after it, cut; return the result.

    ``end`` is the tensor that is cut once more, before the last steps.
    """
    factory = NodeFactory("opset13")
    made: dict[Key, Any] = {}

    def copy(node: Any, made: dict[Key, Any]) -> None:
        inputs = [_own_bias(source) or made.get(key(source), source) for source in _sources(node)]
        new = factory.create(node.get_type_name(), inputs, node.get_attributes())
        made.update(zip(map(key, node.outputs()), new.outputs(), strict=True))

    joined = []
    for way, source in zip(ways, _sources(chain[0]), strict=True):
        branch = {key(way.source): cuts.of(way.source)}
        for node in way.layers:
            copy(node, branch)
        joined.append(branch[key(source)])
    made[key(chain[0].output(0))] = opset13.concat(joined, 1).output(0)
    for node in chain[1:-1]:
        copy(node, made)
        if end is not None and key(node.output(0)) == key(end):
            made[key(end)] = cuts.of(made[key(end)])
    return opset13.result(made[key(chain[-1].input_value(0))])


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
