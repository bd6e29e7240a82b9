"""The images an export looks at: tiles for ranges, labelled ones to choose and to report by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.errors import ExportError
from cellseg.export.images.representative import RepresentativeTile, hold_out, pick_tiles
from cellseg.export.images.same_image import image_hash
from cellseg.runtime.evaluation.labelled import LabelledImage, find_images, read_labelled
from cellseg.runtime.view.normalize import Normalize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cellseg.export.options import ExportOptions
    from cellseg.runtime.bundles.bundle import ModelCard

__all__ = ["ExportImages", "read_images"]


@dataclass(frozen=True)
class ExportImages:
    """Images in the intensity range that the model was trained on."""

    tiles: list[NDArray[np.uint8]]
    """Representative tiles, RGB, each (tile_px, tile_px, 3); none where no int8 is made."""

    held_out: list[NDArray[np.uint8]]
    """Such tiles for fp32 to label where people have not; no pixel of them is in ``tiles``."""

    select: dict[str, list[LabelledImage]]
    """By name: labelled images that choose between int8 files."""

    evaluate: dict[str, list[LabelledImage]]
    """By name: labelled images that quality is reported on, never those of ``select``."""


def read_images(options: ExportOptions, card: ModelCard) -> ExportImages:
    """Read all images, and keep those that quality is reported on out of the others.

    Raises
    ------
    DataError
        If labelled images do not fit the model.
    ExportError
        If one image is in ``select`` and in ``evaluate``, or nothing is left to pick tiles from.
    """
    spec = card.input.normalize
    normalize = Normalize(spec.kind, spec.low, spec.high)
    names = [item.name for item in card.classes]
    evaluate, select = (
        {name: read_labelled(folder, names, normalize) for name, folder in named}
        for named in (options.evaluate, options.select)
    )
    _check_disjoint(select, evaluate)
    picked = _pick_tiles(options, card, normalize)
    held: list[RepresentativeTile] = []
    if picked and not (select and evaluate):
        picked, held = hold_out(picked, options.held_out_tiles, options.seed)
    tiles, held_out = ([item.tile for item in each] for each in (picked, held))
    return ExportImages(tiles, held_out, select, evaluate)


def _pick_tiles(
    options: ExportOptions, card: ModelCard, normalize: Normalize
) -> list[RepresentativeTile]:
    if not options.representative:
        return []
    held_out = {
        image_hash(path)
        for _, folder in (*options.evaluate, *options.select)
        for path in find_images(folder / "images")
    }
    spec = card.input
    fits = {"native": (None,), "whole": (spec.fit_px,), "both": (spec.fit_px, None)}[spec.fit]
    return pick_tiles(
        options.representative,
        normalize,
        options.tiles + options.held_out_tiles,
        _tile_px(options, card),
        options.seed,
        held_out,
        fits,
        card.mpp,
    )


def _tile_px(options: ExportOptions, card: ModelCard) -> int:
    """Side of a representative tile: no more than the network ever saw of an image."""
    most_px = min((options.tile_px, *(card.input.fit_px or ())))
    return int(max(1, most_px // card.stride) * card.stride)


def _check_disjoint(
    select: dict[str, list[LabelledImage]], evaluate: dict[str, list[LabelledImage]]
) -> None:
    """Refuse to choose by the very images that quality is then reported on."""
    reported = {digest for images in evaluate.values() for digest in _files(images)}
    for name, images in select.items():
        shared = [file for digest, file in _files(images).items() if digest in reported]
        if shared:
            raise ExportError(
                "Images that choose must not be those that quality is reported on. "
                f"Received: {len(shared)} of {name!r} in both, e.g. {shared[0]}."
            )


def _files(images: list[LabelledImage]) -> dict[str, str]:
    """Name of each image's file, by its pixels."""
    paths = (item.path for item in images if item.path is not None)
    return {image_hash(path): path.name for path in paths}
