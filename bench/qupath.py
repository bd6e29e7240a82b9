"""What QuPath itself reads in `cells.geojson.gz`, and which cells it counts in regions it drew.

    python bench/qupath.py SLIDE --classpath 'QuPath/lib/app/*' --called 0.5.1

QuPath needs no window for it: ``bench/java/OpenCells.java`` calls its core, so Java 17 and
QuPath's jar files do. So does its module ``qupath-core``, made by ``javac -sourcepath`` from its
source and those of picocli and ImageJ, over the jar files of gson, JTS, Guava, commons-math3 and
slf4j, its resources beside it. Held against each other: every cell with its class, colour, outline
and measurements, and how many lie in an ellipse, a rectangle and one with a hole, as QuPath counts
them in the file of the whole slide and as ``--roi`` does with the regions that QuPath exported.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellseg.runtime.infer import infer_slide
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.slides.readers import open_slide

RESULT = Path(__file__).parent / "results" / "qupath.json"
PROGRAM = Path(__file__).parent / "java" / "OpenCells.java"


def main() -> None:
    """Run, let QuPath read, compare, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path, metavar="SLIDE")
    parser.add_argument("--classpath", required=True, help="of QuPath's core and what it needs")
    parser.add_argument("--called", required=True, metavar="VERSION", help="QuPath's version")
    parser.add_argument("--mpp", type=float, help="of a slide that does not state it, µm a pixel")
    parser.add_argument("--java", default="java", help="command, with options if need be")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(
            asked.slide, asked.mpp, [*shlex.split(asked.java), "-cp", asked.classpath], Path(folder)
        )
    print(json.dumps(found, indent=2))
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    kept = dict(sorted({**kept, f"QuPath {asked.called}": found}.items()))
    RESULT.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def compare(path: Path, mpp: float | None, java: list[str], folder: Path) -> dict[str, Any]:
    """Let QuPath read the cells of a slide; say what it found, and what we say of the same."""
    with closing(open_slide(path)) as slide:
        level = slide.levels[0]
        height, width = level.height_px, level.width_px
    options = InferOptions(write=("geojson", "cells"), mpp=mpp)
    whole = infer_slide(path, folder / "whole", options)
    table = pd.read_parquet(whole.folder / "cells.parquet")
    regions, seen = folder / "regions.geojson", folder / "seen.json"
    cells = whole.folder / "cells.geojson.gz"
    arguments = [*map(str, (cells, width, height, regions, seen))]
    subprocess.run([*java, str(PROGRAM), *arguments], check=True)
    read = json.loads(seen.read_text(encoding="utf-8"))
    part = infer_slide(path, folder / "part", replace(options, roi=regions))
    counted = {each["name"]: each["total"] for each in part.report["cells_summary"]["roi"]}
    return {
        "slide": path.name,
        "cells": {"ours": len(table), "QuPath": read["in_hierarchy"]},
        "identifiers": len({cell["uuid"] for cell in read["cells"]}),
        "detections": sum(cell["is_detection"] for cell in read["cells"]),
        "classes": sorted({f"{cell['class']} #{cell['rgb']:06x}" for cell in read["cells"]}),
        "valid outlines": sum(cell["is_valid"] for cell in read["cells"]),
        "area of outline to pixels, median": _area_ratio(
            read["cells"], table, width / whole.report["plan"]["width_px"]
        ),
        "measurements": _measurements(read["cells"], table),
        "in regions": {"ours": counted, "QuPath": read["by_region"]},
    }


def _area_ratio(cells: list[dict[str, Any]], table: pd.DataFrame, l0_per_wl: float) -> float:
    """Return the median of areas of outlines over those of pixels."""
    pixels = table.set_index("id")["area_px"]
    return float(
        np.median([c["area_px"] / l0_per_wl**2 / pixels[c["measurements"]["id"]] for c in cells])
    )


def _measurements(cells: list[dict[str, Any]], table: pd.DataFrame) -> dict[str, Any]:
    """Compare what QuPath shows of each cell with its row; GeoJSON has it with fewer digits."""
    read = pd.DataFrame([cell["measurements"] for cell in cells]).set_index("id").sort_index()
    rows = table.set_index("id").loc[read.index.astype(int)]
    apart = {}
    for name in read.columns:
        theirs, ours = read[name].to_numpy(float), rows[name].to_numpy(float)
        assert (np.isnan(theirs) == np.isnan(ours)).all(), name
        apart[name] = float(np.nanmax(np.abs(theirs - ours) / np.maximum(1, np.abs(ours))))
    return {"names": len(apart), "largest difference, relative above 1": max(apart.values())}


if __name__ == "__main__":
    main()
