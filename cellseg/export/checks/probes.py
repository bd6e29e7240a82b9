"""Images to probe a network with: noise and real tissue, of the size that a probe takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.export.checks.receptive_field import probe_side
from cellseg.export.onnx_graph.reach import whole_tile_nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from numpy.typing import NDArray

__all__ = ["fit_tile", "probe_images"]

_PAIRS = 8
_MOST_PX = {"noise": 4_000_000, "real": 24_000_000}  # so many of each, in all


def probe_images(
    graph: onnx.ModelProto, tiles: Sequence[NDArray[np.uint8]], seed: int
) -> list[NDArray[np.uint8]]:
    """Return what `cellseg.export.checks.receptive_field.measure_reach` is to look at.

    Parameters
    ----------
    graph : onnx.ModelProto
        The network.
    tiles : sequence of uint8, shape (h, w, 3)
        Representative tiles; may be empty, then there is noise only.
    seed : int
        Of the noise.

    Returns
    -------
    list of uint8, shape (S, S, 3)
        S = ``probe_side(graph)``.
    """
    side_px = probe_side(graph)
    noises, reals = (
        max(2, min(_PAIRS, budget // (6 * side_px * min(side_px, 512))))
        for budget in _MOST_PX.values()  # a pair is run six times
    )
    real = [fit_tile(tile, (side_px, side_px)) for tile in tiles[:reals]]
    if whole_tile_nodes(graph) and len(real) > 1:
        return real  # a mean over noise is like no slide's
    rng = np.random.default_rng(seed)
    noise = [rng.integers(0, 256, (side_px, side_px, 3), np.uint8) for _ in range(noises)]
    # Noise beside noise, noise beside tissue, tissue beside tissue.
    return [*noise, *(image for pair in zip(real, noise, strict=False) for image in pair), *real]


def fit_tile(tile: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut a tile to a size, or repeat it mirrored until it has that.

    Parameters
    ----------
    tile : uint8, shape (h, w, 3)
        RGB.
    hw : (int, int)
        Height and width wanted.

    Returns
    -------
    uint8, shape (*hw, 3)
    """
    missing = [max(0, wanted - size) for wanted, size in zip(hw, tile.shape[:2], strict=True)]
    filled = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(filled[: hw[0], : hw[1]])
