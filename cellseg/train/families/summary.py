"""What a network costs and sees: parameters, multiply-adds, reach, whether tiles are exact.

The reach is measured as a step response through the layers themselves: every weight is made
positive and every bias zero, so that nothing cancels and nothing is hidden by a rectifier; then one
half of an image is black and the other white, and the farthest pixel of the black half that is no
longer black counts. Edges are multiples of the stride, as those of tiles are::

    0 0 0 0 0 0 0 0 | 1 1 1 1 1 1 1 1      input
    0 0 0 + + + + + | + + + + + + + +      before the head: reach 5
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers, ops

from cellseg.layers import WindowAttention, sees_whole_tile
from cellseg.train.families.params import FamilyParams
from cellseg.train.families.table import build_model, parse_params

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


__all__ = ["ModelSummary", "macs", "measured_reach", "reach", "summarize", "summarize_family"]

_SIDE_PX = 1024
_LONGEST_PX = 8192


@dataclass(frozen=True)
class ModelSummary:
    """What `summarize` found."""

    parameters: int
    """Trained and fixed weights."""

    gmac_per_mpx: float
    """Multiply-adds per input pixel, in 1000s; times 1e9 per megapixel of 1e6."""

    receptive_field_px: int | None
    """Measured: pixels past a tile's edge that depend on the other side; None: all of them."""

    stride_px: int
    """Heights, widths and tile origins are multiples of it."""

    tiles_exactly: bool
    """Whether a halo makes tiles equal the whole image."""

    why_not: str | None
    """What stands against it."""

    @property
    def halo_px(self) -> int | None:
        """Least halo of tiles that equal the whole image; None where there is none."""
        reach = self.receptive_field_px
        return None if reach is None else -(-reach // self.stride_px) * self.stride_px

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return {**asdict(self), "halo_px": self.halo_px}

    def lines(self) -> list[str]:
        """Say it in lines."""
        reach = self.receptive_field_px
        felt = "the whole tile" if reach is None else f"{reach} px past a tile's edge"
        tiles = "exactly" if self.tiles_exactly else f"not exactly: {self.why_not}"
        return [
            f"parameters  {self.parameters:,}",
            f"cost        {self.gmac_per_mpx:.1f} GMAC per megapixel",
            f"sees        {felt} (measured)",
            f"halo        {'none is enough' if self.halo_px is None else f'{self.halo_px} px'}",
            f"stride      {self.stride_px} px",
            f"tiles       {tiles}",
        ]


def summarize(model: keras.Model, stride_px: int, twin: keras.Model | None = None) -> ModelSummary:
    """Count and measure a network.

    Parameters
    ----------
    model : keras.Model
        Of `build_model`, or read back; it is left as it was.
    stride_px : int
        Its total stride.
    twin : keras.Model, optional
        The same network but narrower, to measure the reach on: that does not depend on widths.
    """
    seeing = [layer.name for layer in model.layers if sees_whole_tile(layer)]
    return ModelSummary(
        parameters=int(model.count_params()),
        gmac_per_mpx=macs(model, _SIDE_PX, _SIDE_PX) / _SIDE_PX**2 / 1000,
        receptive_field_px=reach(twin or model, stride_px),
        stride_px=stride_px,
        tiles_exactly=not seeing,
        why_not=_why_not(seeing),
    )


def reach(model: keras.Model, stride_px: int) -> int | None:
    """Measure how far a network is felt, as `measured_reach`; None if a layer sees it all."""
    is_local = not any(sees_whole_tile(layer) for layer in model.layers)
    return measured_reach(model, stride_px) if is_local else None


def summarize_family(
    name: str, params: FamilyParams | Mapping[str, Any] | None = None, classes: int = 1
) -> ModelSummary:
    """Build a family's network and summarize it; see `summarize`."""
    known = params if isinstance(params, FamilyParams) else parse_params(name, params or {})
    twin = build_model(name, known.thinned(), classes)
    return summarize(build_model(name, known, classes), known.stride, twin)


def macs(model: keras.Model, height: int, width: int) -> int:
    """Count the multiply-adds of convolutions, products and attention on one image.

    Parameters
    ----------
    model : keras.Model
        Functional.
    height, width : int
        Size of the image, multiples of the stride.
    """
    shapes: dict[int, tuple[int, ...]] = {}
    total = 0
    for tensor in model.inputs:
        shapes[id(tensor)] = (1, height, width, int(tensor.shape[-1]))
    for operation in model.operations:
        for node in operation._inbound_nodes:
            known = [shapes[id(source)] for source in node.input_tensors if id(source) in shapes]
            if not known or len(known) != len(node.input_tensors):
                continue
            after = _shape_after(operation, known)
            shapes[id(node.output_tensors[0])] = after
            total += _macs_of(operation, known[0], after)
    return total


def measured_reach(model: keras.Model, stride_px: int) -> int | None:
    """Measure how far past a tile's edge a network is felt, in pixels; None: to no end.

    Parameters
    ----------
    model : keras.Model
        Left as it was.
    stride_px : int
        Its total stride.
    """
    before_head = keras.Model(model.inputs[0], model.get_layer("classes").input)
    weights = model.get_weights()
    scales = [layer for layer in model.layers if isinstance(layer, layers.Rescaling)]
    offsets = [layer.offset for layer in scales]
    try:
        _make_positive(model)
        for layer in scales:
            layer.offset = 0.0  # black is then 0 whatever the range
        return _step_response(before_head, stride_px)
    finally:
        model.set_weights(weights)
        for layer, offset in zip(scales, offsets, strict=True):
            layer.offset = offset


def _step_response(model: keras.Model, stride_px: int) -> int | None:
    side = 8 * stride_px
    while side <= max(_LONGEST_PX, 16 * stride_px):
        reach = max(_felt(model, side, stride_px, flipped) for flipped in (False, True))
        if reach < side // 2 - stride_px:
            return reach
        side *= 2
    return None


def _felt(model: keras.Model, side: int, stride_px: int, flipped: bool) -> int:
    """Rows of the black half that are no longer black."""
    channels = int(model.inputs[0].shape[-1])
    image: NDArray[np.float32] = np.zeros((1, side, stride_px, channels), np.float32)
    image[:, side // 2 :] = 255.0
    if flipped:
        image = image[:, ::-1].copy()
    with np.errstate(all="ignore"):
        found = np.asarray(ops.convert_to_numpy(model(image, training=False)))[0]
    lit = (np.abs(found) > 0).any(axis=(1, 2)) | np.isnan(found).any(axis=(1, 2))
    lit = lit[::-1] if flipped else lit
    dark = lit[: side // 2]
    return int(dark[::-1].nonzero()[0].max(initial=-1)) + 1


def _make_positive(model: keras.Model) -> None:
    """Let each layer pass on what any of its inputs holds, and nothing of its own."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        values = [_positive(weight, rng) for weight in layer.weights]
        if values:
            layer.set_weights(values)


def _positive(weight: Any, rng: np.random.Generator) -> NDArray[np.float32]:
    shape, name = tuple(weight.shape), weight.path.rsplit("/", 1)[-1]
    if name in ("bias", "beta", "moving_mean", "mean", "qkv_bias", "out_bias", "position_bias"):
        return np.zeros(shape, np.float32)
    if name in ("gamma", "moving_variance", "variance"):
        return np.ones(shape, np.float32)
    # A tap at the rim of a kernel keeps its strength from layer to layer; taps differ, or a mean
    # over the channels, taken away, would leave nothing.
    incoming = shape[-2] if len(shape) > 1 else 1
    return rng.uniform(0.5 / incoming, 1.5 / incoming, shape).astype(np.float32)


def _why_not(seeing: list[str]) -> str | None:
    if not seeing:
        return None
    more = f" and {len(seeing) - 1} more" if len(seeing) > 1 else ""
    return f"{seeing[0]}{more} looks at the whole tile"


def _shape_after(operation: Any, known: list[tuple[int, ...]]) -> tuple[int, ...]:
    if not hasattr(operation, "compute_output_shape"):
        return known[0]
    # A joining layer gets a list, also of one.
    joins = isinstance(operation, (layers.Concatenate, layers.Add, layers.Multiply))
    found = operation.compute_output_shape(known if joins else known[0])
    return tuple(int(size) for size in found)


def _macs_of(layer: Any, before: tuple[int, ...], after: tuple[int, ...]) -> int:
    if isinstance(layer, WindowAttention):
        return layer.macs(before[1], before[2])
    if isinstance(layer, layers.DepthwiseConv2D):
        return int(np.prod(after[1:3])) * int(np.prod(layer.kernel.shape))
    if isinstance(layer, layers.Conv2DTranspose):
        return int(np.prod(before[1:3])) * int(np.prod(layer.kernel.shape))
    if isinstance(layer, (layers.Conv2D, layers.Dense)):
        return int(np.prod(after[1:-1])) * int(np.prod(layer.kernel.shape))
    return 0
