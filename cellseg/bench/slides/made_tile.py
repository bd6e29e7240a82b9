"""One tile of a made slide: its pixels, its classes and its objects.

Everything follows from the tile's place and the slide's plan, so tiles can be made in any order and
by any number of threads.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.bench.slides.patches import CELL_PX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.bench.slides.patches import PatchLibrary
    from cellseg.bench.slides.tissue_field import TissueField

__all__ = ["MadeObject", "MadeTile", "TileMaker", "encode_jpeg", "halved"]


@dataclass(frozen=True)
class MadeObject:
    """An instance as it is seen on the slide: what a border cut away does not count."""

    class_index: int
    centroid_yx: tuple[float, float]
    """Mean of its pixels' places, level 0."""

    bbox_yx: tuple[int, int, int, int]
    """y0, x0, y1, x1; the last two exclusive."""

    area_px: int

    @property
    def line(self) -> str:
        """Line of the instance table, without the id."""
        (cy, cx), (y0, x0, y1, x1) = self.centroid_yx, self.bbox_yx
        return f"{self.class_index},{cx:.3f},{cy:.3f},{x0},{y0},{x1},{y1},{self.area_px}"


@dataclass(frozen=True)
class MadeTile:
    """A finished tile of level 0."""

    jpeg: bytes
    """The encoded tile."""

    half: NDArray[np.uint8]
    """Its pixels, halved, shape (tile / 2, tile / 2, 3)."""

    classes: bytes
    """Its classes, deflated."""

    objects: tuple[MadeObject, ...]
    tissue_px: int
    """Tissue inside the slide."""


@dataclass(frozen=True)
class TileMaker:
    """Everything that decides the bytes of a slide."""

    size_wh: tuple[int, int]
    seed: int
    tile: int
    quality: int
    library: PatchLibrary
    field: TissueField

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles at level 0."""
        return -(-self.size_wh[1] // self.tile), -(-self.size_wh[0] // self.tile)

    @property
    def description(self) -> str:
        """What the file says about its making."""
        width, height = self.size_wh
        return f"cellseg make-slide {width}x{height} seed={self.seed} kind={self.library.kind}"

    def make(self, place: tuple[int, int]) -> MadeTile:
        """Make the tile at a row and column of tiles."""
        row, col = place
        per_side = self.tile // CELL_PX
        rgb, classes = self._glass, self._nothing
        objects: list[MadeObject] = []
        tissue_px = 0
        for cell in np.ndindex(per_side, per_side):
            at = (row * per_side + cell[0], col * per_side + cell[1])
            tissue = self._tissue(*at)
            if not tissue.any():
                continue
            if rgb is self._glass:
                rgb, classes = rgb.copy(), classes.copy()
            window = tuple(slice(i * CELL_PX, (i + 1) * CELL_PX) for i in cell)
            objects += self._fill(rgb[window], classes[window], tissue, at)
            tissue_px += int(self._inside(tissue, at).sum())
        if rgb is self._glass:
            return self._blank
        return _encoded(rgb, classes, self.quality, tuple(objects), tissue_px)

    def _fill(
        self,
        rgb: NDArray[np.uint8],
        classes: NDArray[np.uint8],
        tissue: NDArray[np.bool_],
        at: tuple[int, int],
    ) -> list[MadeObject]:
        """Paint a cell in place and return its objects."""
        patch = self.library.cell(self.seed, *at)
        np.copyto(rgb, patch.rgb, where=tissue[..., None])
        seen = self._inside(tissue, at)
        np.copyto(classes, patch.classes, where=seen)
        labels = np.where(seen, patch.labels, 0)
        return _measure(labels, classes, (at[0] * CELL_PX, at[1] * CELL_PX))

    def _tissue(self, cell_row: int, cell_col: int) -> NDArray[np.bool_]:
        y0, x0 = cell_row * CELL_PX, cell_col * CELL_PX
        if y0 >= self.size_wh[1] or x0 >= self.size_wh[0]:
            return np.zeros((CELL_PX, CELL_PX), bool)
        return np.broadcast_to(self.field.window(y0, x0, CELL_PX), (CELL_PX, CELL_PX))

    def _inside(self, tissue: NDArray[np.bool_], at: tuple[int, int]) -> NDArray[np.bool_]:
        """Leave out what lies past the slide's border."""
        width, height = self.size_wh
        inside = np.zeros_like(tissue)
        inside[: max(0, height - at[0] * CELL_PX), : max(0, width - at[1] * CELL_PX)] = True
        return tissue & inside

    @cached_property
    def _glass(self) -> NDArray[np.uint8]:
        return np.tile(self.library.background, (self.tile, self.tile, 1))

    @cached_property
    def _nothing(self) -> NDArray[np.uint8]:
        return np.zeros((self.tile, self.tile), np.uint8)

    @cached_property
    def _blank(self) -> MadeTile:
        return _encoded(self._glass, self._nothing, self.quality, (), 0)


def encode_jpeg(rgb: NDArray[np.uint8], quality: int) -> bytes:
    """Encode a tile with halved chroma, as scanners do."""
    import imagecodecs

    tile = np.ascontiguousarray(rgb)
    return bytes(imagecodecs.jpeg_encode(tile, level=quality, subsampling="420"))


def halved(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average each square of four pixels, halves rounded up.

    Parameters
    ----------
    rgb : uint8, shape (h, w, 3)
        An odd last row or column is left out.

    Returns
    -------
    uint8, shape (h // 2, w // 2, 3)
    """
    height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
    squares = rgb[: 2 * height, : 2 * width].astype(np.uint16)
    total = squares[::2, ::2] + squares[1::2, ::2] + squares[::2, 1::2] + squares[1::2, 1::2]
    return np.asarray((total + 2) >> 2, np.uint8)


def _encoded(
    rgb: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    quality: int,
    objects: tuple[MadeObject, ...],
    tissue_px: int,
) -> MadeTile:
    deflated = zlib.compress(classes.tobytes(), 6)
    return MadeTile(encode_jpeg(rgb, quality), halved(rgb), deflated, objects, tissue_px)


def _measure(
    labels: NDArray[Any], classes: NDArray[np.uint8], origin_yx: tuple[int, int]
) -> list[MadeObject]:
    """Measure the instances of a cell, in the order of their labels."""
    y, x = np.nonzero(labels)
    if y.size == 0:
        return []
    order = np.argsort(labels[y, x], kind="stable")
    y, x = y[order], x[order]
    starts = np.flatnonzero(np.diff(labels[y, x], prepend=0))
    areas = np.diff(starts, append=y.size)
    kinds = classes[y[starts], x[starts]]
    y, x = y + origin_yx[0], x + origin_yx[1]
    bounds = [at.reduceat(v, starts) for at in (np.minimum, np.maximum) for v in (y, x)]
    sums = [np.add.reduceat(v, starts) for v in (y, x)]
    return [
        MadeObject(
            class_index=int(kinds[i]),
            centroid_yx=(int(sums[0][i]) / int(area), int(sums[1][i]) / int(area)),
            bbox_yx=(
                int(bounds[0][i]), int(bounds[1][i]), int(bounds[2][i]) + 1, int(bounds[3][i]) + 1,
            ),
            area_px=int(area),
        )
        for i, area in enumerate(areas)
    ]  # fmt: skip
