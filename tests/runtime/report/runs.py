"""Finished runs to make reports of: bright discs found by a fake engine."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from skimage.measure import regionprops_table

from tests.fakes import fake_bundle, nuclei_picture, run_fake

RULE = {
    "kind": "interior-border", "interior_channel": 1, "seed_threshold": 0.5, "min_area_px": 4,
}  # fmt: skip


def finished_run(
    folder: Path, *, mpp: float | None = 0.5, cells: bool = True, hw: tuple[int, int] = (180, 240)
) -> Path:
    """Run a picture of discs; the folder of its result."""
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / "a & b.png"  # a name that HTML must escape
    cv2.imwrite(str(image), nuclei_picture(*hw))
    head = {"kind": "softmax", "instances": RULE if cells else None}
    bundle = fake_bundle(folder / "fake.cellseg", head=head, threshold=0.5)
    result, _ = run_fake(
        image, folder / "out", bundle.path, kind="IdentityEngine", mpp=mpp, tile_px=64
    )
    if cells and not (result.folder / "cells.parquet").is_file():
        write_table(result.folder, mpp)
    return Path(result.folder)


def write_table(folder: Path, mpp: float | None) -> None:
    """Write cells.csv from the label map."""
    labels = tifffile.imread(folder / "labels.ome.tif", level=0)
    found: dict[str, Any] = regionprops_table(
        labels, properties=("label", "centroid", "bbox", "area", "eccentricity", "solidity")
    )
    area_um2 = found["area"] * mpp**2 if mpp else np.full(len(found["area"]), np.nan)
    columns = {
        "id": found["label"],
        "class": ["nucleus"] * len(found["label"]),
        "x_px": found["centroid-1"] + 0.5,
        "y_px": found["centroid-0"] + 0.5,
        "x0_px": found["bbox-1"],
        "y0_px": found["bbox-0"],
        "x1_px": found["bbox-3"],
        "y1_px": found["bbox-2"],
        "area_px": found["area"].astype(int),
        "area_um2": ["" if np.isnan(each) else each for each in area_um2],
        "eccentricity": found["eccentricity"],
        "touches_border": found["bbox-0"] == 0,
    }
    with (folder / "cells.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
