"""How far past a tile's edge a network *is* felt: measured through the exported model.

One side of an edge is exchanged for another image; the farthest output pixel that changes on the
side that stayed the same is the reach. Exchanging a whole side sums the impulse responses of all
its pixels, so that what one pixel does too faintly for float32 still shows. Rectifiers and pooling
hide paths, differently on each image, so the largest reach over many pairs of images counts::

      image A        image B        mixed
    aaaaaaaaa      bbbbbbbbb      bbbbbbbbb     rows below the edge: mixed against A
    ---------      ---------      ---------
    aaaaaaaaa      bbbbbbbbb      aaaaaaaaa     rows above the edge: mixed against B

A measurement can only miss paths, so it must not exceed the structure's bound
(`cellseg.export.onnx_graph.reach`); the halo covers the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.reach import structural_reach, total_stride, whole_tile_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx
    from numpy.typing import NDArray

    Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

__all__ = ["ReceptiveField", "choose_halo", "measure_reach", "probe_side"]


_LEAST_PX = 32  # on either side of the edge: a mirrored border wants an image larger than itself
_STRIP_PX = 512  # along the edge, where the network reaches so far that whole squares take minutes


@dataclass(frozen=True)
class ReceptiveField:
    """What was measured, and what the structure allows."""

    measured_px: int
    """Farthest output pixel past an edge that changed."""

    bound_px: int
    """Farthest one that can change."""

    stride: int
    """Edges of tiles are multiples of it."""

    change_at: NDArray[np.float32]
    """Largest change of an output, by distance from the edge, at least to ``bound_px``."""

    whole_tile: tuple[str, ...] = ()
    """Nodes that look at the whole tile: no halo is exact, and the bound holds for the rest."""

    @property
    def exact_halo_px(self) -> int:
        """Bound rounded up to the stride: no input can be felt past it."""
        return -(-self.bound_px // self.stride) * self.stride

    @property
    def far_change(self) -> float:
        """Largest change of an output past the bound: 0 but where nodes look at the whole tile."""
        return float(self.change_at[self.bound_px :].max(initial=0.0))


def probe_side(model: onnx.ModelProto) -> int:
    """Side of the square images that `measure_reach` wants, in pixels."""
    stride = total_stride(model)
    bound = max(reach.radius_px for reach in structural_reach(model))
    return 2 * max(-(-(bound + 1) // stride) + 1, -(-_LEAST_PX // stride)) * stride


def measure_reach(
    model: onnx.ModelProto, predict: Predict, images: Sequence[NDArray[np.uint8]]
) -> ReceptiveField:
    """Measure how far past an edge the output changes.

    Parameters
    ----------
    model : onnx.ModelProto
        The graph, for its stride and bound.
    predict : callable
        The exported model: uint8 (S, S, 3) to float32 (S, S, C), S = ``probe_side(model)``.
    images : sequence of uint8, shape (S, S, 3)
        At least two, unlike each other: noise and real tiles. Neighbours in the list are paired.

    Raises
    ------
    ExportError
        If the output changes farther away than the structure allows: one of the two is wrong.

    Notes
    -----
    Where a node looks at the whole tile, change is expected at any distance, and all of it is kept.
    """
    whole_tile = whole_tile_nodes(model)
    bound = max(reach.radius_px for reach in structural_reach(model))
    width = min(len(images[0]), -(-_STRIP_PX // total_stride(model)) * total_stride(model))
    profiles = [
        _change_along(predict, first, second, axis, width)
        for axis in (0, 1)
        for first, second in pairwise(images)
    ]
    change = np.max(profiles, axis=0)
    measured = int(np.flatnonzero(change).max(initial=-1)) + 1
    if whole_tile:
        return ReceptiveField(measured, bound, total_stride(model), change, whole_tile)
    if measured > bound:
        raise ExportError(
            "A network must not be felt farther than its structure allows. "
            f"Received: measured_px={measured}, bound_px={bound}.",
            hint="A layer looks at the whole tile, or the exporter has a defect: please report it.",
        )
    return ReceptiveField(measured, bound, total_stride(model), change[: bound + 1])


def choose_halo(field: ReceptiveField, tolerance: float = 0.0) -> int:
    """Return the halo: exact, or the smallest whose change stays within a tolerance.

    Parameters
    ----------
    field : ReceptiveField
        What was measured.
    tolerance : float
        0: nothing may change, whatever the image. Else: largest change of an output, on the images
        that were measured. Where a node looks at the whole tile, the halo is that beyond which
        nothing is gained, however large the tolerance.

    Raises
    ------
    ExportError
        If a node looks at the whole tile and no halo keeps the change within the tolerance.
    """
    if field.whole_tile:
        tolerance = _far_change_within(field, tolerance)
    if tolerance == 0.0:
        return field.exact_halo_px
    too_much = int(np.flatnonzero(field.change_at > tolerance).max(initial=-1)) + 1
    return min(-(-too_much // field.stride) * field.stride, field.exact_halo_px)


def _far_change_within(field: ReceptiveField, tolerance: float) -> float:
    """Return what changes past any halo; refuse a tolerance that it exceeds."""
    far = field.far_change
    if far > tolerance:
        raise ExportError(
            "What looks at the whole tile must stay within the tolerance of the halo. Received: "
            f"a change of {far:.3g} past any halo by {field.whole_tile[0]!r}, "
            f"halo_tolerance={tolerance:g}.",
            hint=f"Allow it, and it is stored with the bundle: --halo-tolerance {_above(far):g}; "
            "or train a family that tiles exactly.",
        )
    return far


def _above(value: float) -> float:
    """Round up to a hundredth."""
    return float(np.ceil(value * 100) / 100)


def _change_along(
    predict: Predict,
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    axis: int,
    width: int,
) -> NDArray[np.float32]:
    """Largest change at each distance from an edge across the middle of an axis, on either side."""
    first, second = (np.take(image, range(width), 1 - axis) for image in (first, second))
    edge = first.shape[axis] // 2
    before, after = _split(second, edge, axis)[0], _split(first, edge, axis)[1]
    mixed = predict(np.concatenate([before, after], axis))
    past = np.abs(_split(mixed - predict(first), edge, axis)[1])
    short = np.abs(_split(mixed - predict(second), edge, axis)[0])
    largest = np.maximum(past.max((1 - axis, 2)), short.max((1 - axis, 2))[::-1])
    return np.asarray(largest, np.float32)


def _split(
    array: NDArray[np.generic], at: int, axis: int
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    first, second = np.split(array, [at], axis)
    return first, second
