"""Picks the tiles that stand for the model's input when ranges for int8 are measured.

Candidates are cut from whole images after their intensity range was applied, as the model will see
them. Blank glass and near-duplicates are thrown out; what is left is divided into strata (folder,
brightness, contrast, colour) and picked from them in turns, so that a rare kind of image counts as
much as a common one. Images that quality is measured on are kept out, by content.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import ExportError, SlideError
from cellseg.runtime.fit import bring_to
from cellseg.runtime.labelled import find_images, read_normalized

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.normalize import Normalize

__all__ = ["RepresentativeTile", "content_hash", "pick_tiles"]

_LOG = logging.getLogger(__name__)
_TILES_PER_IMAGE = 3
_BLANK_STD = 4.0  # of 255; noise on an empty field stays below
_THUMB_PX = 16
_SAME_THUMB = 2.0  # mean difference of thumbnails, of 255, below which tiles count as one
_CANDIDATES_PER_TILE = 4


@dataclass(frozen=True)
class RepresentativeTile:
    """A tile and what it was chosen by."""

    image: Path
    """File it was cut from."""

    tile: NDArray[np.uint8]
    """RGB, shape (tile_px, tile_px, 3)."""

    source: int
    """Index of the folder it comes from."""

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
) -> list[RepresentativeTile]:
    """Pick representative tiles from folders of images.

    Parameters
    ----------
    folders : sequence of Path
        Searched in depth; folders named masks, labels or points are passed over.
    normalize : Normalize
        Intensity range, measured per image.
    count : int
        Tiles wanted; fewer are returned where there are no more.
    tile_px : int
        Side of a tile; smaller images repeat their border.
    seed : int
        Same seed and files, same tiles.
    exclude : collection of str
        `content_hash` of images not to use.
    fits : sequence of (int, int) or None
        Sizes that a whole image is scaled to fit before tiles are cut; None: its own scale.

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
            hint="Name folders of training images with --representative.",
        )
    wanted = min(len(images), count * _CANDIDATES_PER_TILE)
    chosen = [images[i] for i in _spread_over_sources([s for s, _ in images], wanted, rng)]
    candidates = [
        tile
        for s, path in chosen
        for image in _read(path, normalize, fits)
        for tile in _cut_tiles(s, path, image, tile_px, rng)
    ]
    kept = _without_duplicates([tile for tile in candidates if not tile.is_blank])
    if not kept:
        raise ExportError(
            f"Representative images must show something. Received: {len(candidates)} blank tiles."
        )
    picked = _pick_in_turns(kept, count, rng)
    _LOG.info(
        "representative tiles: %d of %d candidates, from %d images (%d blank or alike)",
        len(picked), len(candidates), len(chosen), len(candidates) - len(kept),
    )  # fmt: skip
    return picked


def content_hash(path: Path) -> str:
    """Hash of a file's bytes: the same image under another name is the same image."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _allowed_images(folders: Sequence[Path], exclude: Collection[str]) -> list[tuple[int, Path]]:
    found = [(s, path) for s, folder in enumerate(folders) for path in find_images(folder)]
    allowed = [(s, path) for s, path in found if content_hash(path) not in exclude]
    if len(allowed) < len(found):
        _LOG.warning(
            "representative images: %d left out, quality is measured on them",
            len(found) - len(allowed),
        )
    return allowed


def _read(
    path: Path, normalize: Normalize, fits: Sequence[tuple[int, int] | None]
) -> Iterator[NDArray[np.uint8]]:
    """Yield an image at each scale at which the network will see it."""
    try:
        image = read_normalized(path, normalize)
    except SlideError as error:
        _LOG.warning("representative images: %s left out: %s", path, error)
        return
    for fit_hw in fits:
        yield image if fit_hw is None else bring_to(image, fit_hw)


def _cut_tiles(
    source: int, path: Path, image: NDArray[np.uint8], tile_px: int, rng: np.random.Generator
) -> Iterator[RepresentativeTile]:
    missing = [max(0, tile_px - size) for size in image.shape[:2]]
    image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    places = (image.shape[0] - tile_px + 1) * (image.shape[1] - tile_px + 1)
    for _ in range(min(_TILES_PER_IMAGE, places)):
        y, x = (int(rng.integers(size - tile_px + 1)) for size in image.shape[:2])
        yield RepresentativeTile(path, image[y : y + tile_px, x : x + tile_px].copy(), source)


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
