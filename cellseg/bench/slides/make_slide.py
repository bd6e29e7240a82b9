"""Make a slide of any size from real annotated images, with its exact truth beside it.

A slide is pieced together from cells of 256 px (`patches`) wherever there is tissue
(`tissue_field`), and is plain glass elsewhere. It is written row of tiles by row of tiles, and each
tile is halved at once into the level above, whose finished tiles wait, encoded, in a temporary file
until their page is written::

    level 0   made and encoded in threads          -> page 0 of OUT.tif
    level 1   two rows of halved tiles of level 0  -> temporary file -> page 1
    level 2   two rows of halved tiles of level 1  -> temporary file -> page 2 ...

What is held: one row of tiles of each level above 0, together at most 3 * tile * width bytes.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from cellseg.bench.slides.made_tile import TileMaker, encode_jpeg, halved
from cellseg.bench.slides.patches import CELL_PX, PatchLibrary
from cellseg.bench.slides.tissue_field import TissueField
from cellseg.errors import DataError
from cellseg.runtime.machine.ahead import in_order

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cellseg.bench.slides.made_tile import MadeTile
    from cellseg.bench.slides.patches import Kind

__all__ = ["MadeSlide", "make_slide"]

_AHEAD = 16
_MAX_PIXELS = 1 << 40
_COLUMNS = "id,class,centroid_x_px,centroid_y_px,x0_px,y0_px,x1_px,y1_px,area_px"


@dataclass(frozen=True)
class MadeSlide:
    """What was made."""

    slide: Path
    """Pyramidal tiled JPEG BigTIFF."""

    classes: Path
    """uint8 class map of level 0, tiled, deflate."""

    instances: Path
    """CSV: one object a line, level-0 pixels; x1 and y1 are exclusive."""

    size_wh: tuple[int, int]
    tissue: float
    """Fraction of the slide that became tissue."""

    objects: int
    """Lines of the instance table."""

    kind: str
    """Kind of images that it was made from."""


def make_slide(
    out: str | os.PathLike[str],
    size_wh: tuple[int, int],
    tissue: float,
    seed: int,
    images_dir: str | os.PathLike[str],
    *,
    mpp: float = 0.5,
    tile: int = 512,
    quality: int = 90,
    kind: Kind = "auto",
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> MadeSlide:
    """Make a slide and its truth.

    Parameters
    ----------
    out : path
        ``NAME.tif``; ``NAME.classes.tif`` and ``NAME.instances.csv`` are written beside it.
    size_wh : (int, int)
        Width and height in pixels.
    tissue : float
        Fraction of the slide that is tissue, 0..1.
    seed : int
        The same seed gives the same bytes (with the same versions of the codecs).
    images_dir : path
        Folder of ``images/ masks/ labels/``.
    mpp : float
        Microns per pixel that the file states; nothing is resampled.
    tile : int
        Tile side, a multiple of 256.
    quality : int
        JPEG quality, 1..100.
    kind : {"auto", "stained", "brightfield", "fluorescence", "all"}
        Which of the images are used.
    threads : int
        Tiles made at once; the bytes do not depend on it.
    progress : callable, optional
        Called with tiles done and tiles in all.

    Returns
    -------
    MadeSlide
        Paths and counts.

    Raises
    ------
    DataError
        If an argument is out of range or the images do not fit together. Nothing is left behind.
    """
    path = Path(out)
    _check(path, size_wh, tissue, mpp, tile, quality)
    library = PatchLibrary(Path(images_dir), kind)
    field = TissueField(size_wh, tissue, seed)
    maker = TileMaker(size_wh, seed, tile, quality, library, field)
    targets = (path, path.with_suffix(".classes.tif"), path.with_suffix(".instances.csv"))
    parts = tuple(target.with_name(target.name + ".part") for target in targets)
    try:
        with tempfile.TemporaryFile(dir=path.parent) as spool, ThreadPoolExecutor(threads) as pool:
            writer = _Writer(maker, mpp, pool, spool, progress)
            writer.write(*parts)
        for part, target in zip(parts, targets, strict=True):
            part.replace(target)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    share = writer.tissue_px / (size_wh[0] * size_wh[1])
    return MadeSlide(*targets, size_wh, share, writer.objects, library.kind)


def _check(
    path: Path, size_wh: tuple[int, int], tissue: float, mpp: float, tile: int, quality: int
) -> None:
    rules = {
        "the output must end in .tif or .tiff": path.suffix.lower() in (".tif", ".tiff"),
        "the output's folder must exist": path.parent.is_dir(),
        "the size must be positive and below a million megapixels": min(size_wh) > 0
        and size_wh[0] * size_wh[1] <= _MAX_PIXELS,
        "the tissue fraction must lie in 0..1": 0 <= tissue <= 1,
        "microns per pixel must be positive": mpp > 0,
        f"the tile must be a multiple of {CELL_PX}": tile > 0 and tile % CELL_PX == 0,
        "the JPEG quality must lie in 1..100": 1 <= quality <= 100,
    }
    for rule, holds in rules.items():
        if not holds:
            raise DataError(
                f"To make a slide, {rule}. Received: out={path}, size={size_wh[0]}x{size_wh[1]}, "
                f"tissue={tissue}, mpp={mpp}, tile={tile}, quality={quality}."
            )


class _Writer:
    """Draws the tiles of a slide once, in order, and sends their parts where they belong."""

    def __init__(
        self,
        maker: TileMaker,
        mpp: float,
        pool: ThreadPoolExecutor,
        spool: IO[bytes],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.objects = self.tissue_px = 0
        self._maker, self._mpp, self._pool = maker, mpp, pool
        self._progress = progress
        self._classes = _Spool(spool)
        sizes = [maker.size_wh]
        while max(sizes[-1]) > maker.tile:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self._levels: list[_Level] = []
        above = None
        for size_wh, below_wh in zip(sizes[:0:-1], sizes[-2::-1], strict=True):
            rows_below = -(-below_wh[1] // maker.tile)
            above = _Level(maker, size_wh, rows_below, pool, _Spool(spool), above)
            self._levels.insert(0, above)

    def write(self, slide: Path, classes: Path, instances: Path) -> None:
        """Write the three files."""
        from tifffile import TiffWriter

        options: dict[str, Any] = {
            "photometric": "ycbcr",
            "compression": "jpeg",
            "subsampling": (2, 2),
        }
        with (
            instances.open("w", encoding="ascii", newline="\n") as table,
            TiffWriter(slide, bigtiff=True) as tif,
        ):
            print(_COLUMNS, file=table)
            size_wh = self._maker.size_wh
            self._page(tif, self._tiles(table), size_wh, 1, **options)
            for index, level in enumerate(self._levels, start=1):
                tiles = level.spool.read()
                self._page(tif, tiles, level.size_wh, 2**index, **options)
        with TiffWriter(classes, bigtiff=True) as tif:
            options = {"photometric": "minisblack", "compression": "adobe_deflate"}
            self._page(tif, self._classes.read(), size_wh, 1, samples=(), **options)

    def _tiles(self, table: IO[str]) -> Iterator[bytes]:
        """Yield the encoded tiles of level 0, and send on everything else that they bring."""
        rows, cols = self._maker.grid
        places = ((row, col) for row in range(rows) for col in range(cols))
        for done, tile in enumerate(in_order(self._pool, self._maker.make, places, _AHEAD)):
            row, col = divmod(done, cols)
            self._keep(tile, row, col, table)
            if self._progress is not None:
                self._progress(done + 1, rows * cols)
            yield tile.jpeg

    def _keep(self, tile: MadeTile, row: int, col: int, table: IO[str]) -> None:
        self.tissue_px += tile.tissue_px
        self._classes.append(tile.classes)
        for found in tile.objects:
            self.objects += 1
            print(self.objects, found.line, sep=",", file=table)
        if self._levels:
            self._levels[0].put(row, col, tile.half)
            if col == self._maker.grid[1] - 1:
                self._levels[0].end_row(row)

    def _page(
        self,
        tif: Any,
        tiles: Iterator[bytes],
        size_wh: tuple[int, int],
        downsample: int,
        samples: tuple[int, ...] = (3,),
        **options: Any,
    ) -> None:
        per_cm = 1e4 / (self._mpp * downsample)
        tif.write(
            tiles,
            shape=(size_wh[1], size_wh[0], *samples),
            dtype=np.uint8,
            tile=(self._maker.tile, self._maker.tile),
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            subfiletype=0 if downsample == 1 else 1,
            description=self._maker.description if downsample == 1 else None,
            software=False,
            metadata=None,
            **options,
        )


class _Level:
    """A level above 0: filled with halved tiles from below, emptied a row of tiles at a time."""

    def __init__(
        self,
        maker: TileMaker,
        size_wh: tuple[int, int],
        rows_below: int,
        pool: ThreadPoolExecutor,
        spool: _Spool,
        above: _Level | None,
    ) -> None:
        self.size_wh, self.spool = size_wh, spool
        self._tile, self._rows_below = maker.tile, rows_below
        self._pool, self._above = pool, above
        self._encode = partial(encode_jpeg, quality=maker.quality)
        self._blank = maker.library.background
        cols = -(-size_wh[0] // maker.tile)
        self._band = np.empty((maker.tile, cols * maker.tile, 3), np.uint8)
        self._band[:] = self._blank

    def put(self, row: int, col: int, half: NDArray[np.uint8]) -> None:
        """Take the half of a tile of the level below."""
        side = self._tile // 2
        y, x = (row % 2) * side, col * side
        self._band[y : y + side, x : x + side] = half

    def end_row(self, row: int) -> None:
        """Note that a row of tiles below is complete; empty the band if it is full, or the last."""
        if row % 2 == 0 and row != self._rows_below - 1:
            return
        tiles = np.split(self._band, self._band.shape[1] // self._tile, axis=1)
        for col, jpeg in enumerate(in_order(self._pool, self._encode, tiles, _AHEAD)):
            self.spool.append(jpeg)
            if self._above is not None:
                self._above.put(row // 2, col, halved(tiles[col]))
        self._band[:] = self._blank
        if self._above is not None:
            self._above.end_row(row // 2)


class _Spool:
    """Encoded tiles that wait in a temporary file, which several spools may share."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._spans: list[tuple[int, int]] = []

    def append(self, data: bytes) -> None:
        """Keep the bytes of one tile."""
        self._spans.append((self._file.seek(0, 2), len(data)))
        self._file.write(data)

    def read(self) -> Iterator[bytes]:
        """Yield the tiles in the order they came."""
        for offset, count in self._spans:
            self._file.seek(offset)
            yield self._file.read(count)
