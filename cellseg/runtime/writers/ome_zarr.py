"""Maps of classes and cells as OME-Zarr 0.5: label images for viewers that read Zarr.

A folder with one array a level. Each level is written in shards of 2048 x 2048 pixels (one file
each, 16 chunks inside), so that a slide of 16 gigapixels is some five thousand files and not a
hundred thousand; a shard without foreground has no file. A level is made from the one before, read
back shard by shard, so that memory does not grow with the slide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellseg.runtime.store.labels import halved, windows
from cellseg.runtime.writers.z_order import PyramidGrid

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cellseg.runtime.store.labels import LabelSource
    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["label_metadata", "write_classes_zarr", "write_labels_zarr"]

_CHUNK_PX = 512
_SHARD_PX = 2048
_ZSTD_LEVEL = 3


def write_classes_zarr(path: Path, run: FinishedRun) -> None:
    """Write the class map with its label-preserving pyramid to a new folder; needs zarr 3."""
    job = run.job
    levels = len(PyramidGrid(job.view.hw, _CHUNK_PX).level_hws)
    about = label_metadata(levels, job.view.mpp, job.class_names, job.palette)
    _write_pyramid(path, run.classes, about)


def write_labels_zarr(path: Path, run: FinishedRun) -> None:
    """Write the number of the cell at every pixel, in the same way."""
    assert run.cells is not None  # the table says that it needs them
    levels = len(PyramidGrid(run.job.view.hw, _CHUNK_PX).level_hws)
    # Viewers colour numbers by themselves; classes of millions of cells are in their table.
    shown = {"colors": [{"label-value": 0, "rgba": [0, 0, 0, 0]}]}
    about = _metadata("labels", levels, run.job.view.mpp, shown, "the commonest cell of each block")
    _write_pyramid(path, run.cells, about)


def _write_pyramid(path: Path, source: LabelSource, about: dict[str, Any]) -> None:
    import zarr

    root = zarr.create_group(str(path), zarr_format=3, attributes={"ome": about})
    for level, hw in enumerate(PyramidGrid(source.hw, _CHUNK_PX).level_hws):
        array = _new_array(root, str(level), hw, source.dtype.name)
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
    """
    colours = [
        {"label-value": index, "rgba": [*map(int, colour), 255 if index else 0]}
        for index, colour in enumerate(palette)
    ]
    names = [{"label-value": index, "class": name} for index, name in enumerate(class_names)]
    shown = {"colors": colours, "properties": names}
    return _metadata("classes", levels, mpp, shown, "the commonest class of each 2 x 2 block")


def _metadata(
    name: str,
    levels: int,
    mpp: tuple[float, float] | None,
    image_label: dict[str, Any],
    description: str,
) -> dict[str, Any]:
    """Say what a pyramid of labels is.

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
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": name,
                "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
                "datasets": datasets,
                "type": "mode",
                "metadata": {"description": description},
            }
        ],
        "image-label": image_label,
    }


def _new_array(root: Any, name: str, hw: tuple[int, int], dtype: str) -> Any:
    from zarr.codecs import ZstdCodec

    return root.create_array(
        name,
        shape=hw,
        dtype=dtype,
        chunks=(_CHUNK_PX, _CHUNK_PX),
        shards=(_SHARD_PX, _SHARD_PX),
        compressors=ZstdCodec(level=_ZSTD_LEVEL),
        fill_value=0,
        dimension_names=("y", "x"),
    )


def _half_of(root: Any, finer: int, y: int, x: int) -> NDArray[Any]:
    """Return a shard, made from the four shards of the level before."""
    window = root[str(finer)][2 * y : 2 * (y + _SHARD_PX), 2 * x : 2 * (x + _SHARD_PX)]
    return halved(window)
