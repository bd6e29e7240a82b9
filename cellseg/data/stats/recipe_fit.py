"""Whether a data set and a recipe fit together: sizes of objects and images, crop, stride, classes.

Each mismatch is a sentence that says what to change. What a recipe asks for comes as plain numbers,
so that nothing here knows how recipes are written or networks built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.data.stats.contents import Stats

__all__ = ["RecipeNeeds", "mismatches", "seen_diameters"]

_TINY_PX = 4.0
"""Objects below this lose their shape."""
_ENLARGED = 2.0
_FILLED = 0.6


@dataclass(frozen=True)
class RecipeNeeds:
    """What a recipe asks of its images."""

    name: str
    """Of the recipe."""
    crop_wh: tuple[int, int]
    """Width and height of what the network is trained on, px."""
    reduces: bool
    """Whether whole images are scaled to fit the crop."""
    cuts: bool
    """Whether crops are cut at the images' own scale."""
    stride_px: int
    """Total stride of the network."""
    reach_px: int | None
    """How far the network sees to each side; None: the whole tile, or not known."""
    instances: bool
    """Whether it learns numbered objects."""
    classes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Name and mask values of each class, background first; no values: by threshold or colour."""


def mismatches(stats: Stats, needs: RecipeNeeds) -> list[str]:
    """Say where a data set and a recipe do not fit; nothing if they do.

    Parameters
    ----------
    stats : Stats
        Of the data set.
    needs : RecipeNeeds
        Of the recipe.
    """
    return [
        *_objects(stats, needs),
        *_images(stats, needs),
        *_network(needs),
        *(_labels(stats) if needs.instances else _classes(stats, needs)),
    ]


def seen_diameters(stats: Stats, needs: RecipeNeeds) -> NDArray[np.float64]:
    """Diameters of all objects as the network meets them, at their largest, px."""
    if needs.cuts or not stats.diameters_px.size:
        return stats.diameters_px
    return np.asarray(stats.diameters_px * _scales(stats, needs)[stats.object_images])


def _scales(stats: Stats, needs: RecipeNeeds) -> NDArray[np.float64]:
    """Factor that each whole image is scaled by."""
    width, height = needs.crop_wh
    factors = [min(width / row.width_px, height / row.height_px) for row in stats.images]
    return np.array(factors)


def _objects(stats: Stats, needs: RecipeNeeds) -> Iterator[str]:
    diameters = stats.diameters_px
    if not diameters.size:
        return
    reduced = diameters * _scales(stats, needs)[stats.object_images]
    seen = seen_diameters(stats, needs)
    if needs.reach_px is not None and (wide := float((seen > needs.reach_px).mean())) > 0:
        yield (
            f"{wide:.1%} of the objects are larger than the {needs.reach_px} px that the network "
            f"sees to each side (the largest: {seen.max():.0f} px): reduce the images, or take a "
            "deeper network"
        )
    side = min(needs.crop_wh)
    if needs.cuts and (cut := float((diameters > side).mean())) > 0:
        yield f"{cut:.1%} of the objects are larger than a crop of {side} px: none is seen whole"
    if needs.reduces and (middle := float(np.median(reduced))) < _TINY_PX:
        yield (
            f"half of the objects are less than {max(middle, 0.1):.1f} px wide once an image is "
            f"reduced to fit {_size(needs)}: take input.fit = 'native', or a larger input.size_px"
        )


def _images(stats: Stats, needs: RecipeNeeds) -> Iterator[str]:
    width, height = needs.crop_wh
    rows, scales = stats.images, _scales(stats, needs)
    small = sum(row.width_px < width or row.height_px < height for row in rows)
    if needs.cuts and small:
        yield (
            f"{small} of {len(rows)} images are smaller than a crop of {_size(needs)} and are "
            "mirrored to fill it: take smaller crops"
        )
    enlarged = int((scales > _ENLARGED).sum())
    if needs.reduces and enlarged:
        yield (
            f"{enlarged} of {len(rows)} images are enlarged up to {scales.max():.1f} times to fit "
            f"{_size(needs)}: take a smaller input.size_px, or input.fit = 'native'"
        )
    areas = np.array([row.width_px * row.height_px for row in rows])
    filled = float(np.median(areas * scales**2 / (width * height)))
    if needs.reduces and filled < _FILLED:
        yield (
            f"half of the images fill less than {filled:.0%} of an input of {_size(needs)}: choose "
            "an input.size_px of their shape"
        )
    tiny = sum(min(row.width_px, row.height_px) < needs.stride_px for row in rows)
    if tiny:
        yield f"{tiny} images are smaller than the network's stride of {needs.stride_px} px"


def _network(needs: RecipeNeeds) -> Iterator[str]:
    if any(side % needs.stride_px for side in needs.crop_wh):
        yield (
            f"a crop of {_size(needs)} is no multiple of the network's stride of "
            f"{needs.stride_px} px"
        )
    if needs.reach_px is not None and 2 * needs.reach_px > min(needs.crop_wh):
        yield (
            f"the network sees {needs.reach_px} px to each side, more than a crop of "
            f"{_size(needs)} shows: it is trained on less than it can see, and its tiles need a "
            "halo of that many px"
        )


def _labels(stats: Stats) -> Iterator[str]:
    without = sum(not has for has in stats.has_labels)
    if without:
        yield (
            f"{without} of {len(stats.images)} images have no labels/, and the recipe learns "
            "numbered objects: take target.kind = 'classes', or import instances"
        )


def _classes(stats: Stats, needs: RecipeNeeds) -> Iterator[str]:
    """Compare mask values; a mask that is cut at a threshold knows foreground only."""
    held = stats.class_values
    if not any(values for _, values in needs.classes):
        if len(held) > 1 and len(needs.classes) == 2:
            joined = ", ".join(held)
            yield (
                f"the masks hold {len(held)} classes ({joined}) and the recipe one: all of them "
                "become its foreground, or fall below its threshold; name them in [[classes]]"
            )
        return
    known = {value for _, values in needs.classes for value in values}
    for name, value in held.items():
        if value not in known:
            yield f"mask value {value} ({name}) belongs to no class of the recipe: training stops"
    for name, values in needs.classes[1:]:
        names = [held_name for held_name, value in held.items() if value in values]
        if not names:
            yield f"the recipe's class {name!r} is in no mask"
        elif names != [name] and len(held) > 1:
            yield f"the recipe's class {name!r} is {' and '.join(names)} in classes.json"


def _size(needs: RecipeNeeds) -> str:
    return f"{needs.crop_wh[0]} x {needs.crop_wh[1]} px"
