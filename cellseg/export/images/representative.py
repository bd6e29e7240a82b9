"""Picks the tiles that stand for the model's input when ranges for int8 are measured.

Candidates are cut from images and slides as the model will see them: their intensity range applied,
slides at the model's pixel size and where tissue is. Blank glass and near-duplicates are thrown
out; what is left is divided into strata (folder, brightness, contrast, colour) and picked from them
in turns, so that a rare kind of image counts as much as a common one. Images that quality is
measured on are kept out, by their pixels; tiles that are held out (`hold_out`) come from images of
their own, or, of few images, from places of their own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import ExportError
from cellseg.export.images.places import find_sources, views_of
from cellseg.export.images.same_image import image_hash

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.export.images.places import View
    from cellseg.runtime.view.normalize import Normalize

__all__ = ["RepresentativeTile", "hold_out", "pick_tiles"]

_LOG = logging.getLogger(__name__)
_TILES_PER_IMAGE = 3
_BLANK_STD = 4.0  # of 255; noise on an empty field stays below
_THUMB_PX = 16
_SAME_THUMB = 2.0  # mean difference of thumbnails, of 255, below which tiles count as one
_CANDIDATES_PER_TILE = 4
_MOST_OVER = 1.25  # times the tiles wanted: an image is held out as a whole
_FEW_IMAGES = 8  # of fewer, places are held out; of more, whole images


@dataclass(frozen=True)
class RepresentativeTile:
    """A tile and what it was chosen by."""

    image: Path
    """File it was cut from."""

    tile: NDArray[np.uint8]
    """RGB, shape (tile_px, tile_px, 3)."""

    source: int
    """Index of the folder it comes from."""

    part: str = ""
    """What shares no pixel with another part: an image's content, or a place in it."""

    @property
    def thumb(self) -> NDArray[np.float32]:
        """Grey, block-averaged, shape (16, 16)."""
        side = self.tile.shape[0] // _THUMB_PX * _THUMB_PX
        grey = self.tile[:side, :side].mean(-1, dtype=np.float32)
        blocks = grey.reshape(_THUMB_PX, side // _THUMB_PX, _THUMB_PX, side // _THUMB_PX)
        means: NDArray[np.float32] = blocks.mean((1, 3))
        return means

    @property
    def is_blank(self) -> bool:
        """Whether nothing is on it."""
        return bool(self.tile.std() < _BLANK_STD)


def pick_tiles(
    folders: Sequence[Path],
    normalize: Normalize,
    count: int = 128,
    tile_px: int = 256,
    seed: int = 0,
    exclude: Collection[str] = (),
    fits: Sequence[tuple[int, int] | None] = (None,),
    mpp: float | None = None,
) -> list[RepresentativeTile]:
    """Pick representative tiles from folders of images, and from slides.

    Parameters
    ----------
    folders : sequence of Path
        Searched in depth; folders named masks, labels or points are passed over. Or a file.
    normalize : Normalize
        Intensity range, measured per image.
    count : int
        Tiles wanted; fewer are returned where there are no more.
    tile_px : int
        Side of a tile; smaller images repeat their border.
    seed : int
        Same seed and files, same tiles.
    exclude : collection of str
        `image_hash` of images not to use.
    fits : sequence of (int, int) or None
        Sizes that a whole image is scaled to fit before tiles are cut; None: its own scale.
    mpp : float, optional
        The model's microns per pixel, which slides are brought to.

    Raises
    ------
    ExportError
        If nothing is left to pick from.
    """
    rng = np.random.default_rng(seed)
    images = _allowed_images(folders, exclude)
    if not images:
        raise ExportError(
            "int8 needs representative images that quality is not measured on. "
            f"Received: none left in {[str(folder) for folder in folders]}.",
            hint="Name folders of training images, or slides, with --representative.",
        )
    wanted = min(len(images), count * _CANDIDATES_PER_TILE)
    chosen = [images[i] for i in _spread_over_sources([s for s, _, _ in images], wanted, rng)]
    each = max(_TILES_PER_IMAGE, -(-_CANDIDATES_PER_TILE * count // (2 * len(chosen))))
    is_few = len(chosen) < _FEW_IMAGES
    candidates = [
        tile
        for source, path, digest in chosen
        for view in views_of(path, normalize, fits, mpp)
        for tile in _cut_tiles(_Origin(path, source, digest), view, tile_px, each, is_few, rng)
    ]
    if is_few and len(fits) > 1:  # one place at two scales is the same place
        candidates = [replace(tile, part=tile.part.partition("@")[0]) for tile in candidates]
    kept = _without_duplicates([tile for tile in candidates if not tile.is_blank])
    if not candidates:
        raise ExportError(
            f"Representative images must be readable. Received: none of {len(chosen)} was.",
            hint="Name folders of images, or slides, with --representative.",
        )
    if not kept:
        raise ExportError(
            f"Representative images must show something. Received: {len(candidates)} blank tiles.",
            hint="Name images that show what the model is for with --representative.",
        )
    picked = _pick_in_turns(kept, count, rng)
    _LOG.info(
        "representative tiles: %d of %d candidates, from %d images (%d blank or alike)",
        len(picked), len(candidates), len(chosen), len(candidates) - len(kept),
    )  # fmt: skip
    return picked


def hold_out(
    tiles: Sequence[RepresentativeTile], most: int, seed: int = 0
) -> tuple[list[RepresentativeTile], list[RepresentativeTile]]:
    """Divide tiles into those that give ranges and those that judge; no pixel is in both.

    Parameters
    ----------
    tiles : sequence of RepresentativeTile
        As picked.
    most : int
        Tiles to hold out; a third where there are few.
    seed : int
        Picks them.

    Returns
    -------
    two lists of RepresentativeTile
        Those that give ranges, at least one, and those that were held out; none if all tiles are
        of one part.
    """
    wanted = min(most, -(-len(tiles) // 3))
    parts = list(dict.fromkeys(tile.part for tile in tiles))
    order = [parts[index] for index in np.random.default_rng(seed).permutation(len(parts))]
    held: set[str] = set()
    count = 0
    for part in order[:-1]:
        more = sum(tile.part == part for tile in tiles)
        if count < wanted and (count == 0 or count + more <= _MOST_OVER * wanted):
            held.add(part)
            count += more
    ranging = [tile for tile in tiles if tile.part not in held]
    return ranging, [tile for tile in tiles if tile.part in held]


@dataclass(frozen=True)
class _Origin:
    """Where a tile comes from."""

    path: Path
    source: int
    digest: str


def _allowed_images(
    folders: Sequence[Path], exclude: Collection[str]
) -> list[tuple[int, Path, str]]:
    """Folder, file and hash of pixels; an image that lies there twice counts once."""
    found = [(s, path) for s, folder in enumerate(folders) for path in find_sources(folder)]
    hashed = {image_hash(path): (s, path) for s, path in reversed(found)}
    allowed = [(s, path, digest) for digest, (s, path) in reversed(hashed.items())]
    allowed = [item for item in allowed if item[2] not in exclude]
    if len(allowed) < len(hashed):
        _LOG.warning(
            "representative images: %d left out, quality is measured on them",
            len(hashed) - len(allowed),
        )
    return allowed


def _cut_tiles(
    origin: _Origin,
    view: View,
    tile_px: int,
    count: int,
    is_few: bool,
    rng: np.random.Generator,
) -> Iterator[RepresentativeTile]:
    """Cut tiles of an image; of few images, and of a slide, many that do not overlap."""
    if is_few or view.is_slide:
        places = view.grid(tile_px, count, rng)
    else:
        places = view.anywhere(tile_px, count, rng)
    for y, x in places:
        part = f"{origin.digest}@{y},{x}" if is_few else origin.digest
        yield RepresentativeTile(origin.path, view.read(y, x, tile_px).copy(), origin.source, part)


def _without_duplicates(tiles: Iterable[RepresentativeTile]) -> list[RepresentativeTile]:
    kept: list[RepresentativeTile] = []
    thumbs: list[NDArray[np.float32]] = []
    for tile in tiles:
        thumb = tile.thumb
        if not thumbs or np.abs(np.stack(thumbs) - thumb).mean((1, 2)).min() >= _SAME_THUMB:
            kept.append(tile)
            thumbs.append(thumb)
    return kept


def _pick_in_turns(
    tiles: list[RepresentativeTile], count: int, rng: np.random.Generator
) -> list[RepresentativeTile]:
    strata = _strata(tiles)
    picked = _spread_over_sources(strata, min(count, len(tiles)), rng)
    return [tiles[index] for index in picked]


def _strata(tiles: list[RepresentativeTile]) -> list[tuple[int, ...]]:
    """Folder, third of brightness, third of contrast, coloured or grey."""
    brightness = np.array([tile.tile.mean() for tile in tiles])
    contrast = np.array([tile.tile.std() for tile in tiles])
    colour = np.array([np.ptp(tile.tile, axis=-1).mean() > 8 for tile in tiles])
    thirds = [np.searchsorted(np.quantile(v, [1 / 3, 2 / 3]), v) for v in (brightness, contrast)]
    return [
        (tile.source, int(thirds[0][i]), int(thirds[1][i]), int(colour[i]))
        for i, tile in enumerate(tiles)
    ]


def _spread_over_sources(keys: Sequence[object], count: int, rng: np.random.Generator) -> list[int]:
    """Pick indices from groups of equal key in turns, at random within a group."""
    groups: dict[object, list[int]] = {}
    for index in rng.permutation(len(keys)):
        groups.setdefault(keys[index], []).append(int(index))
    queues = [groups[key] for key in sorted(groups, key=repr)]
    picked: list[int] = []
    while len(picked) < count and queues:
        picked.extend(queue.pop() for queue in queues)
        queues = [queue for queue in queues if queue]
    return picked[:count]
