"""Density of cells as a picture and as a map: where a slide is crowded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.pictures.density import (
    DensityMap,
    density_map,
    framed_density,
    part_within,
)
from cellseg.runtime.pictures.overview import halvings_to_fit, read_overview
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.writers.columns import run_columns
from cellseg.runtime.writers.ome_tiff import LabelImage, write_ome_tiff
from cellseg.runtime.writers.png import PngFile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["write_density", "write_density_map"]

_LONGEST_PX = 2048
_PICTURE_PX = 1024


def write_density(path: Path, run: FinishedRun) -> None:
    """Write the heat map as PNG: colours over the slide in grey, with a colour bar."""
    job = run.job
    halvings = halvings_to_fit(job.view.hw, _PICTURE_PX)
    overview = read_overview(job.shown, halvings)
    picture = framed_density(_density(run, halvings), overview)
    with PngFile(path, (picture.shape[0], picture.shape[1]), channels=3) as png:
        png.add(picture)


def write_density_map(path: Path, run: FinishedRun) -> None:
    """Write cells per mm² as a float32 OME-TIFF with its pyramid; programs lay it on the slide.

    Without a pixel size the numbers are cells per million pixels of level 0.
    """
    view = run.job.view
    halvings = halvings_to_fit(view.hw, _LONGEST_PX)
    density = _density(run, halvings)
    mpp = None
    if view.mpp is not None:
        mpp = (view.mpp[0] * 2**halvings, view.mpp[1] * 2**halvings)
    image = LabelImage(f"density, {density.unit}", mpp)
    write_ome_tiff(path, ArrayLabels(_in_few_bits(density.values)), image, halve=_mean_halved)


def _density(run: FinishedRun, halvings: int) -> DensityMap:
    slide = run.job.slide
    cells = run_columns(run, ("x_px", "y_px"))
    base, (height, width) = slide.levels[0], run.job.view.hw
    shape = (-(-height // 2**halvings), -(-width // 2**halvings))
    where = (cells["x_px"], cells["y_px"])
    looked_at = part_within(run.job.looked_at, run.job.view.hw, shape)
    return density_map(where, (base.height_px, base.width_px), looked_at, slide.mpp)


def _mean_halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a map at half the size by the mean of each block of four."""
    height, width = values.shape
    even = np.pad(values, ((0, height % 2), (0, width % 2)), mode="edge")
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)
    return _in_few_bits(blocks.mean((1, 3), dtype=np.float32))


def _in_few_bits(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to 11 binary digits, better than a part in two thousand: noise does not deflate."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32) + np.uint32(1 << 12)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)
