"""Tiles in which a slide is stored, and windows put together from them.

Every reader of stored tiles (TIFF, OpenSlide, OME-Zarr) gives a grid for each level and a function
that decodes one tile; what is kept, what is damaged and what was decoded how often is settled here,
once for all of them.

A damaged tile stops the run by default. Where it is to be skipped, its pixels become the slide's
ground, so that the model sees nothing there: black where the slide is dark (fluorescence), white
otherwise. Which of the two is read from tiles of the coarsest level of which any can be decoded, so
that it depends on the file alone and never on which tile was damaged or when that was found.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import SlideError
from cellseg.runtime.slides.slide import paste
from cellseg.runtime.slides.tilecache import TileCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = [
    "CACHE_BYTES",
    "DamagedTile",
    "PassCounts",
    "SourceTiles",
    "TileGrid",
    "UndecodableError",
    "source_of",
    "was_filled",
]

CACHE_BYTES = 128 << 20
_GROUND_TILES = 64
_DARK_BELOW = 0.5
"""Median brightness of a dark ground, of the brightest; see `cellseg.runtime.tissue.mask`."""
_DAMAGED_HINT = (
    "The file is damaged there: copy or export it again, or go on with --on-error skip, which "
    "takes such tiles for background and lists them."
)


class UndecodableError(Exception):
    """What a reader raises for a tile whose bytes are missing or damaged.

    Parameters
    ----------
    reason : str
        What is wrong, without a full stop.
    offset : int, optional
        Where the tile begins in the file, bytes.
    """

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.offset = reason, offset


@dataclass(frozen=True)
class TileGrid:
    """How a level is cut into tiles; those at its right and lower end may be smaller."""

    height_px: int
    """Height of the level."""

    width_px: int
    """Width of the level."""

    tile_h: int
    """Height of a tile."""

    tile_w: int
    """Width of a tile."""

    @property
    def rows(self) -> int:
        """Tiles along y."""
        return -(-self.height_px // self.tile_h)

    @property
    def cols(self) -> int:
        """Tiles along x."""
        return -(-self.width_px // self.tile_w)

    def clip(self, row: int, col: int) -> tuple[int, int]:
        """Size of a tile without what lies outside the level."""
        return (
            min(self.tile_h, self.height_px - row * self.tile_h),
            min(self.tile_w, self.width_px - col * self.tile_w),
        )


@dataclass(frozen=True, order=True)
class DamagedTile:
    """A stored tile that cannot be decoded."""

    level: int
    """Level of the pyramid."""

    row: int
    """Tiles of that level above it."""

    column: int
    """Tiles of that level left of it."""

    y_px: int
    """First row of pixels, of that level."""

    x_px: int
    """First column of pixels, of that level."""

    offset_bytes: int | None
    """Where it begins in the file; None where the format does not say."""

    reason: str
    """What the decoder said."""

    def __str__(self) -> str:
        offset = "" if self.offset_bytes is None else f", byte {self.offset_bytes}"
        return (
            f"level {self.level}: the tile at row {self.row}, column {self.column} "
            f"(y={self.y_px}, x={self.x_px}{offset}) cannot be decoded: {self.reason}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PassCounts:
    """What one pass over a slide cost."""

    touched: int
    """Stored tiles that at least one window needed."""

    decoded: int
    """Tiles that were decoded, each time counted; equal to ``touched`` where none was twice."""


class SourceTiles:
    """Stored tiles of all levels, behind a cache; windows may be read from several threads.

    Parameters
    ----------
    path : str
        For messages.
    grids : sequence of TileGrid
        One a level.
    dtype : dtype
        uint8 or uint16.
    decode : callable
        ``decode(level, row, col)`` gives uint8 or uint16 (h, w, 3), clipped to the level, or raises
        `UndecodableError`.
    cache_bytes : int
        Decoded tiles to keep, in bytes.

    Attributes
    ----------
    cache : TileCache
        What is kept.
    skips_damage : bool
        Whether a damaged tile becomes ground instead of an error.
    """

    def __init__(
        self,
        path: str,
        grids: Sequence[TileGrid],
        dtype: np.dtype[Any],
        decode: Callable[[int, int, int], NDArray[Any]],
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._path, self._decode, self._dtype = path, decode, dtype
        self.grids = tuple(grids)
        self.cache = TileCache(cache_bytes)
        self.skips_damage = False
        self._lock = Lock()
        self._damaged: dict[tuple[int, int, int], DamagedTile] = {}
        self._ground: int | None = None
        self._touched: dict[int, NDArray[np.bool_]] = {}
        self._made_before = 0

    def window(self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[Any]:
        """Put a window together; see :meth:`cellseg.runtime.slides.slide.Slide.read_region`."""
        grid = self.grids[level]
        window = np.empty((*hw, 3), self._dtype)
        rows, cols = self._touched_by(level, l_yx, hw)
        for row in rows:
            for col in cols:
                origin = (row * grid.tile_h - l_yx[0], col * grid.tile_w - l_yx[1])
                paste(window, self.tile(level, row, col), origin)
        return window

    def tile(self, level: int, row: int, col: int) -> NDArray[Any]:
        """Return one decoded tile, not to be written into."""
        if (touched := self._touched.get(level)) is not None:
            touched[row, col] = True
        return self.cache.get((level, row, col), lambda: self._made(level, row, col))

    def take_over(self, other: SourceTiles) -> None:
        """Use the memory of other tiles, which are forgotten there, and treat damage as they do."""
        other.cache.clear()
        self.cache.resize(other.cache.limit_bytes)
        self.skips_damage = other.skips_damage

    def damaged(self) -> list[DamagedTile]:
        """Return the damaged tiles that were met and filled so far, in order."""
        with self._lock:
            return sorted(self._damaged.values())

    def was_filled(self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> bool:
        """Say whether damaged tiles of a window were met and filled so far."""
        rows, cols = self._touched_by(level, l_yx, hw)
        with self._lock:
            return any(at == level and r in rows and c in cols for at, r, c in self._damaged)

    @property
    def damaged_count(self) -> int:
        """How many there are."""
        return len(self._damaged)

    def begin_pass(self, level: int) -> None:
        """Count from now on what is touched and decoded; ``level`` is what the pass reads."""
        grid = self.grids[level]
        self._made_before = self.cache.made
        self._touched = {level: np.zeros((grid.rows, grid.cols), bool)}

    def pass_counts(self) -> PassCounts:
        """Return the counts since `begin_pass`."""
        touched = sum(int(np.count_nonzero(seen)) for seen in self._touched.values())
        return PassCounts(touched, self.cache.made - self._made_before)

    def tile_bytes(self, level: int) -> int:
        """Return the bytes of a whole decoded tile, or of all of a level that is smaller."""
        height, width = self.grids[level].clip(0, 0)
        return height * width * 3 * self._dtype.itemsize

    def _touched_by(
        self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]
    ) -> tuple[range, range]:
        """Return the rows and columns of tiles that a window lies on."""
        (y0, x0), (h, w), grid = l_yx, hw, self.grids[level]
        return (
            range(y0 // grid.tile_h, (y0 + h - 1) // grid.tile_h + 1),
            range(x0 // grid.tile_w, (x0 + w - 1) // grid.tile_w + 1),
        )

    def _made(self, level: int, row: int, col: int) -> NDArray[Any]:
        try:
            return self._decode(level, row, col)
        except UndecodableError as error:
            grid = self.grids[level]
            place = (row * grid.tile_h, col * grid.tile_w)
            damaged = DamagedTile(level, row, col, *place, error.offset, error.reason)
            if not self.skips_damage:
                raise SlideError(f"{self._path}: {damaged}.", hint=_DAMAGED_HINT) from error
            ground = self._ground_value()
            with self._lock:
                self._damaged[level, row, col] = damaged
            return np.full((*grid.clip(row, col), 3), ground, self._dtype)

    def _ground_value(self) -> int:
        with self._lock:
            if self._ground is None:
                self._ground = self._measured_ground()
            return self._ground

    def _measured_ground(self) -> int:
        """Tell a dark slide from a bright one by the median of the coarsest level that is left."""
        samples = self._coarse_samples()
        white = int(np.iinfo(self._dtype).max)
        if not samples:
            return white
        brightness = np.concatenate(samples)
        top = max(1.0, float(np.percentile(brightness, 99.9)))
        return 0 if float(np.median(brightness)) < _DARK_BELOW * top else white

    def _coarse_samples(self) -> list[NDArray[Any]]:
        for level in reversed(range(len(self.grids))):
            tiles = self._some_tiles(level)  # large ones may be: one at a time
            if samples := [tile[::4, ::4].mean(axis=2).reshape(-1) for tile in tiles]:
                return samples
        return []

    def _some_tiles(self, level: int) -> Iterator[NDArray[Any]]:
        """Decode up to 64 tiles of a level, spread evenly, past the cache."""
        grid = self.grids[level]
        count = grid.rows * grid.cols
        picked = sorted({count * i // _GROUND_TILES for i in range(_GROUND_TILES)})
        for index in picked:
            with suppress(UndecodableError):
                yield self._decode(level, *divmod(index, grid.cols))


def was_filled(slide: object, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> bool:
    """Say whether a window of a slide that was read is not all the slide's own.

    What is measured there tells nothing of the slide; a finer level may.
    """
    source = source_of(slide)
    return source is not None and source.was_filled(level, l_yx, hw)


def source_of(slide: object) -> SourceTiles | None:
    """Return the stored tiles of a slide; None for one that lies in memory."""
    source = getattr(slide, "source", None)
    return source if isinstance(source, SourceTiles) else None
