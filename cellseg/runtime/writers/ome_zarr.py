"""The class map as OME-Zarr 0.5: a label image for viewers that read Zarr, from disk or by HTTP.

A folder with one array a level. Each level is written in shards of 2048 x 2048 pixels (one file
each, 16 chunks inside), so that a slide of 16 gigapixels is some five thousand files and not a
hundred thousand; a shard without foreground has no file. A level is made from the one before, read
back shard by shard, so that memory does not grow with the slide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellseg.runtime.labels import halved, windows
from cellseg.runtime.writers.z_order import PyramidGrid

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cellseg.runtime.finished import FinishedRun
    from cellseg.runtime.labels import LabelSource

__all__ = ["label_metadata", "write_classes_zarr"]

_CHUNK_PX = 512
_SHARD_PX = 2048
_ZSTD_LEVEL = 3


def write_classes_zarr(path: Path, run: FinishedRun) -> None:
    """Write the class map with its label-preserving pyramid to a new folder; needs zarr 3."""
    import zarr

    job = run.job
    level_hws = PyramidGrid(job.view.hw, _CHUNK_PX).level_hws
    about = label_metadata(len(level_hws), job.view.mpp, job.class_names, job.palette)
    root = zarr.create_group(str(path), zarr_format=3, attributes={"ome": about})
    source: LabelSource = run.classes
    for level, hw in enumerate(level_hws):
        array = _new_array(root, str(level), hw)
        for y, x, h, w in windows(hw, _SHARD_PX):
            labels = source.read(y, x, h, w) if level == 0 else _half_of(root, level - 1, y, x)
            array[y : y + h, x : x + w] = labels


def label_metadata(
    levels: int,
    mpp: tuple[float, float] | None,
    class_names: list[str],
    palette: NDArray[np.uint8],
) -> dict[str, Any]:
    """Return what the group says of itself, under ``ome``.

    Parameters
    ----------
    levels : int
        Arrays, each half as large as the one before.
    mpp : (float, float) or None
        Microns per pixel, (x, y).
    class_names : list of str
        Background first.
    palette : uint8, shape (n, 3)
        Colour of each class; background is shown as nothing.

    Notes
    -----
    A pixel stands for its centre: that of a reduced level's first pixel lies half a block, less
    half a pixel, from that of the full resolution.
    """
    x_um, y_um = mpp or (1.0, 1.0)
    unit = {} if mpp is None else {"unit": "micrometer"}
    shifts = [(2**level - 1) / 2 for level in range(levels)]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [y_um * 2**level, x_um * 2**level]},
                {"type": "translation", "translation": [y_um * shift, x_um * shift]},
            ],
        }
        for level, shift in enumerate(shifts)
    ]
    colours = [
        {"label-value": index, "rgba": [*map(int, colour), 255 if index else 0]}
        for index, colour in enumerate(palette)
    ]
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": "classes",
                "axes": [{"name": name, "type": "space", **unit} for name in "yx"],
                "datasets": datasets,
                "type": "mode",
                "metadata": {"description": "the commonest class of each 2 x 2 block"},
            }
        ],
        "image-label": {
            "colors": colours,
            "properties": [
                {"label-value": index, "class": name} for index, name in enumerate(class_names)
            ],
        },
    }


def _new_array(root: Any, name: str, hw: tuple[int, int]) -> Any:
    from zarr.codecs import ZstdCodec

    return root.create_array(
        name,
        shape=hw,
        dtype="uint8",
        chunks=(_CHUNK_PX, _CHUNK_PX),
        shards=(_SHARD_PX, _SHARD_PX),
        compressors=ZstdCodec(level=_ZSTD_LEVEL),
        fill_value=0,
        dimension_names=("y", "x"),
    )


def _half_of(root: Any, finer: int, y: int, x: int) -> NDArray[np.uint8]:
    """Return a shard, made from the four shards of the level before."""
    window = root[str(finer)][2 * y : 2 * (y + _SHARD_PX), 2 * x : 2 * (x + _SHARD_PX)]
    half: NDArray[np.uint8] = halved(window)
    return half
