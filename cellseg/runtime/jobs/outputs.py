"""The table of outputs: the files a run can make, and what makes each.

Nothing of a writer is imported before it is needed; a new output is one more entry. A writer is
called with the path to write to and the run to write from, a `FinishedRun`. Which outputs a run can
make is settled in `cellseg.runtime.jobs.wanted`.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from cellseg.errors import CellsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Writer = Callable[[Path, Any], None]

__all__ = [
    "DEFAULT_OUTPUTS",
    "OUTPUTS",
    "OVERVIEW_LONGEST_PX",
    "Output",
    "check_names",
    "outputs_of",
]

OVERVIEW_LONGEST_PX = 4096
"""Longer side of the overlay picture; a larger slide is halved until it fits."""

_FLAT_LIMIT_PX = 2**28
"""Flat pictures are for plain images: few programs open a larger one."""
_WRITERS = "cellseg.runtime.writers"


@dataclass(frozen=True)
class Output:
    """One file (or folder) of a result, known before its writer is imported."""

    file: str
    """Its name in the result folder."""

    writer: str
    """``module:function``, the module within `cellseg.runtime.writers`."""

    summary: str
    """What it is, in a few words."""

    needs: Literal["classes", "cells", "probability"] = "classes"
    """What it is made from. Without cells told apart, an output of cells is left out."""

    cells_up_to_px: float = 0
    """Cells are drawn one by one in an image whose longer side is at most this."""

    shows_slide: bool = False
    """Whether the slide's overview is part of it."""

    surveys: bool = False
    """Whether the run's survey of the class map is made while it is written."""

    limit_px: int | None = None
    """Most pixels at the working level; None: any number."""

    instead: str | None = None
    """Output that has no such limit."""

    needs_mpp: bool = False
    """Whether it can say nothing of a slide without a pixel size."""

    package: str | None = None
    """Package that must be installed."""

    least: tuple[int, ...] = ()
    """Version from which on that package serves."""

    extra: str | None = None
    """Extra of cellseg that brings it."""

    without_package: str | None = None
    """Output that takes its place where that package is not installed."""

    brings: tuple[str, ...] = ()
    """Outputs that are made with it, under one name of ``--write``."""

    left_bytes: int = 4 << 20
    """What it leaves in memory until the run ends: libraries and kernels. Those of the default
    outputs are counted together (`cellseg.runtime.memory.footprint`)."""

    settings: tuple[str, ...] = ()
    """Fields of `InferOptions` that its content depends on."""

    def load(self) -> Writer:
        """Import the writer."""
        module, _, function = self.writer.partition(":")
        writer: Writer = getattr(import_module(f"{_WRITERS}.{module}"), function)
        return writer

    def settings_of(self, options: object) -> dict[str, Any]:
        """Return the settings it is made with, of an `InferOptions`; the report keeps them."""
        return {name: getattr(options, name) for name in self.settings}


OUTPUTS: dict[str, Output] = {
    "classes": Output(
        "classes.ome.tif",
        "label_files:write_classes",
        "class of every pixel",
        surveys=True,
    ),
    "labels": Output(
        "labels.ome.tif",
        "label_files:write_labels",
        "number of the cell at every pixel",
        needs="cells",
    ),
    "geojson": Output(
        "cells.geojson.gz",
        "cells_geojson:write_cells_geojson",
        "outline and measurements of each cell, for QuPath",
        needs="cells",
        settings=("simplify_px",),
    ),
    "cells": Output(
        "cells.parquet",
        "cells_parquet:write_cells_parquet",
        "table of cells with outlines (GeoParquet); cells.csv where pyarrow is missing",
        needs="cells",
        package="pyarrow",
        extra="parquet",
        without_package="csv",
        settings=("simplify_px",),
    ),
    "csv": Output(
        "cells.csv",
        "cells_csv:write_cells_csv",
        "table of cells as text",
        needs="cells",
    ),
    "channels": Output(
        "channels.csv",
        "channels_csv:write_channels_csv",
        "mean and deviation of every channel of the file in each cell, in its own numbers",
        needs="cells",
    ),
    "ome-zarr": Output(
        "classes.ome.zarr",
        "ome_zarr:write_classes_zarr",
        "class of every pixel as OME-Zarr 0.5, a folder",
        package="zarr",
        least=(3,),
        extra="zarr",
    ),
    "ome-zarr-labels": Output(
        "labels.ome.zarr",
        "ome_zarr:write_labels_zarr",
        "number of the cell at every pixel as OME-Zarr 0.5",
        needs="cells",
        package="zarr",
        least=(3,),
        extra="zarr",
    ),
    "dicom-seg": Output(
        "classes.dcm",
        "dicom_seg:write_classes_dicom",
        "class of every pixel as a DICOM Segmentation, a segment a class",
        needs_mpp=True,
        package="highdicom",
        least=(0, 28),
        left_bytes=96 << 20,  # measured: 94 to 96 MiB, pydicom's dictionaries and codes most of it
        extra="dicom",
    ),
    "overlay": Output(
        "overlay.jpg",
        "overlay:write_overlay",
        "picture with the result painted on, <= 4096 px",
        cells_up_to_px=OVERVIEW_LONGEST_PX,
        shows_slide=True,
    ),
    "overlay-pyramid": Output(
        "overlay.tif",
        "overlay_pyramid:write_overlay_pyramid",
        "the same at full resolution: a pyramidal JPEG TIFF",
        cells_up_to_px=math.inf,
    ),
    "heatmap": Output(
        "density.png",
        "density:write_density",
        "where cells are dense, as a picture; density.ome.tif comes with it",
        needs="cells",
        brings=("density",),
    ),
    "density": Output(
        "density.ome.tif",
        "density:write_density_map",
        "cells per mm² as a pyramidal map",
        needs="cells",
    ),
    "gallery": Output(
        "gallery.jpg",
        "gallery:write_gallery",
        "cells of each class side by side, from small to large",
        needs="cells",
    ),
    "histogram": Output(
        "histogram.svg",
        "gallery:write_histogram",
        "how many cells have which area",
        needs="cells",
    ),
    "probability": Output(
        "probability.ome.tif",
        "label_files:write_probability",
        "probability of foreground, 0 to 255",
        needs="probability",
    ),
    "mask": Output(
        "mask.png",
        "masks:write_mask",
        "black and white: 255 is foreground",
        limit_px=_FLAT_LIMIT_PX,
        instead="classes",
    ),
    "blurred-mask": Output(
        "blurred-mask.png",
        "masks:write_blurred_mask",
        "probability of foreground, blurred (--blur)",
        needs="probability",
        limit_px=_FLAT_LIMIT_PX,
        instead="probability",
        settings=("blur_px",),
    ),
    "colour-mask": Output(
        "colour-mask.png",
        "masks:write_colour_mask",
        "classes in their colours",
        limit_px=_FLAT_LIMIT_PX,
        instead="classes",
    ),
    "merged": Output(
        "merged.png",
        "masks:write_merged",
        "image and classes blended, pixel for pixel",
        limit_px=_FLAT_LIMIT_PX,
        instead="overlay-pyramid",
    ),
}
"""Outputs by the name that ``--write`` takes, in the order in which they are made."""

DEFAULT_OUTPUTS = ("classes", "labels", "geojson", "cells", "overlay")
"""What is made where nothing is asked for."""


def check_names(names: Iterable[str]) -> None:
    """Refuse a name that is no output.

    Raises
    ------
    CellsegError
        Naming the nearest output.
    """
    unknown = [name for name in names if name not in OUTPUTS]
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], OUTPUTS, n=1)
    raise CellsegError(
        f"Outputs are {', '.join(OUTPUTS)}. Received: write={','.join(unknown)}.",
        hint=f"Did you mean {near[0]!r}?" if near else None,
    )


def outputs_of(files: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the outputs that some files are."""
    present = set(files)
    return tuple(name for name, output in OUTPUTS.items() if output.file in present)
