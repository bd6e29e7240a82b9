"""Cells that are known: is every one found once, is it the same for any tile and region, how fast.

    python bench/cells.py truth --side 32768           every cell once, IoU 1; minutes
    python bench/cells.py same --side 8192             tiles 512, 1024 x regions 1024, 2048, 4096
    python bench/cells.py whole --side 8192            against scipy and scikit-image, whole image
    python bench/cells.py dask --side 16384 --python ENV/bin/python    against dask-image
    python bench/cells.py write --cells 1000000        GeoJSON and Parquet: seconds and memory
    python bench/cells.py polygons                     polygon -> raster -> compare

Slides are made of a pattern of nuclei (`cellseg.bench.slides.oracle_slide`); the engine gives back
what is painted there, so that all but the network is measured. Each part prints a line of JSON and
adds it to bench/results/cells.json; it exits with 1 where a cell is lost, doubled, cut, or differs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.bench.rounds.process import run_process
from cellseg.bench.slides.oracle_slide import (
    CELLS,
    OracleEngine,
    Pattern,
    PatternSlide,
    oracle_bundle,
    regions_of,
)
from cellseg.console import BenchDisplay, RunDisplay, stderr
from cellseg.runtime.infer import infer_slide
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.machine.facts import this_machine
from cellseg.runtime.memory.budget import peak_rss_mb, reset_peak_rss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.cells.measured import MeasuredCells
    from cellseg.runtime.infer import RunResult

HERE = Path(__file__).parent
WINDOW_PX = 1024
_KEY = 1 << 32
WRITTEN = ("classes", "labels", "geojson", "cells")


def run(slide: PatternSlide, out: Path, tile_px: int = 512, core_px: int = 1024) -> RunResult:
    """Run the oracle over a slide, into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    options = InferOptions(
        model=oracle_bundle(out / "oracle.cellseg").path, tile_px=tile_px, write=WRITTEN
    )
    with regions_of(core_px), RunDisplay(stderr(), f"tile {tile_px}, region {core_px}") as display:
        return infer_slide(
            slide, out, options, display, open_engine=lambda _, __, hw: OracleEngine(hw)
        )


def slide_of(options: argparse.Namespace, touching: bool = False) -> PatternSlide:
    """Return a slide of the wanted side."""
    options.work.mkdir(parents=True, exist_ok=True)
    pattern = Pattern.make(touching)
    return PatternSlide(pattern, options.side, pattern.save(options.work / "pattern.npy"))


def truth(options: argparse.Namespace) -> dict[str, Any]:
    """Hold the label map of separated nuclei against what was painted, pixel by pixel."""
    slide = slide_of(options)
    result = run(slide, options.work / "truth")
    lost, doubled, differing, count = _against_truth(slide, result)
    return {
        "side_px": options.side,
        "cells": count,
        "in_table": result.report["cells_summary"]["total"],
        "lost": lost,
        "doubled_or_cut": doubled,
        "pixels_differing": differing,
        "wall_s": result.report["wall_s"],
        "stages_s": result.report["stages_s"],
        "peak_rss_mb": result.report["peak_rss_mb"],
        "ok": (lost, doubled, differing) == (0, 0, 0),
    }


def _against_truth(slide: PatternSlide, result: RunResult) -> tuple[int, int, int, int]:
    """Return cells lost, cells with two numbers or numbers with two cells, pixels, cells."""
    from cellseg.runtime.store.lazy import LazyLabels

    labels = LazyLabels(result.folder / "labels.ome.tif")
    differing, pairs = 0, np.zeros(0, np.int64)
    side = slide.levels[0].width_px
    rows = range(0, side, WINDOW_PX)
    with BenchDisplay(stderr()) as display:
        for row, y in enumerate(rows):
            display(row, len(rows), "holding labels against the truth")
            found = [pairs]
            for x in range(0, side, WINDOW_PX):
                hw = min(WINDOW_PX, side - y), min(WINDOW_PX, side - x)
                seen = labels[y : y + hw[0], x : x + hw[1]].astype(np.int64)
                known = slide.truth((y, x), hw)
                differing += int(((seen > 0) != (known > 0)).sum())
                found.append(_pairs(seen, known))
            pairs = np.unique(np.concatenate(found))
    seen, known = np.divmod(pairs, _KEY)
    lost = int((seen == 0).sum())
    is_both = (seen > 0) & (known > 0)
    numbers, cells = (len(np.unique(ids[is_both])) for ids in (seen, known))
    count = int(is_both.sum())
    return lost, (count - numbers) + (count - cells), differing, cells


def _pairs(seen: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which number lies on which cell, ``number * _KEY + cell``, each but a few times."""
    keys = (seen * _KEY + known).ravel()
    begins = np.flatnonzero(keys[1:] != keys[:-1]) + 1  # of pixels in a row, the first will do
    some = np.unique(keys[np.concatenate(([0], begins))])
    return some[some > 0]


def same(options: argparse.Namespace) -> dict[str, Any]:
    """Run touching nuclei with every size of tile and region: one table, one partition."""
    slide = slide_of(options, touching=True)
    seen: dict[str, dict[str, str]] = {}
    for tile_px in options.tiles:
        for core_px in options.regions:
            result = run(slide, options.work / "same", tile_px, core_px)
            facts = result.report["outputs"]
            seen[f"tile {tile_px}, region {core_px}"] = {
                name: facts[name]["sha256"]
                for name in ("labels.ome.tif", "cells.geojson.gz", "cells.parquet")
            }
    distinct = {tuple(hashes.values()) for hashes in seen.values()}
    total = result.report["cells_summary"]["total"]
    return {"side_px": options.side, "cells": total, "files": seen, "ok": len(distinct) == 1}


def whole(options: argparse.Namespace) -> dict[str, Any]:
    """Hold touching nuclei against scipy's labels and scikit-image's watershed and regionprops."""
    import pandas as pd
    from scipy.ndimage import label
    from skimage.segmentation import watershed

    slide = slide_of(options, touching=True)
    result = run(slide, options.work / "whole")
    grey = slide.read_region(0, (0, 0), (options.side, options.side))[..., 0]
    seeds, count = label(grey >= round(CELLS["seed_threshold"] * 255))
    seeds[(np.bincount(seeds.ravel()) < CELLS["min_seed_px"])[seeds]] = 0
    pieces, piece_count = label(grey >= 128)
    seedless = np.ones(piece_count + 1, bool)
    seedless[pieces[seeds > 0]] = False
    seeds = np.where(seedless[pieces] & (pieces > 0), pieces + count, seeds)
    expected = watershed(255 - grey, seeds.astype(np.int32), mask=grey >= 128)
    expected[(np.bincount(expected.ravel()) < CELLS["min_area_px"])[expected]] = 0
    table = pd.read_parquet(result.folder / "cells.parquet")
    matched, iou = _matched(_labels(result), expected)
    return {
        "side_px": options.side,
        "cells": len(table),
        "scikit_image": int(len(np.unique(expected)) - 1),
        "matched_above_half": matched,
        "median_iou": iou,
        "ok": matched == len(table) == len(np.unique(expected)) - 1,
    }


def _labels(result: RunResult) -> NDArray[np.int64]:
    import tifffile

    return np.asarray(tifffile.imread(result.folder / "labels.ome.tif"), np.int64)


def _matched(ours: NDArray[np.int64], theirs: NDArray[Any]) -> tuple[int, float]:
    """Return pairs whose intersection over union is above a half, and its median."""
    width = int(theirs.max()) + 1
    pairs, shared = np.unique(ours.ravel() * width + theirs.ravel(), return_counts=True)
    a, b = np.divmod(pairs, width)
    area_a, area_b = np.bincount(ours.ravel()), np.bincount(theirs.ravel())
    iou = shared / (area_a[a] + area_b[b] - shared)
    found = iou[(a > 0) & (b > 0) & (iou > 0.5)]
    return len(found), float(np.median(found))


def dask(options: argparse.Namespace) -> dict[str, Any]:
    """Label and measure dense separated nuclei, by us and by dask-image with regionprops."""
    slide = slide_of(options)
    grey = options.work / "grey.npy"
    picture = np.lib.format.open_memmap(grey, "w+", np.uint8, (options.side, options.side))
    for y in range(0, options.side, WINDOW_PX):
        height = min(WINDOW_PX, options.side - y)
        picture[y : y + height] = slide.read_region(0, (y, 0), (height, options.side))[..., 0]
    picture.flush()
    mine = [sys.executable, __file__, "ours", "--side", str(options.side)]
    us = run_process([*mine, "--work", str(options.work)], options.timeout)
    peer = HERE / "peers" / "dask_cells.py"
    them = run_process([str(options.python), str(peer), str(grey)], options.timeout)
    ours_s, theirs_s = us.said["cells_s"], them.said["work_s"]
    return {
        "side_px": options.side,
        "cells": [us.said["cells"], them.said["cells"]],
        "ours_s": ours_s,
        "dask_image_s": theirs_s,
        "times_faster": round(theirs_s / ours_s, 1),
        "ours_mb": us.peak_rss_mb,
        "dask_image_mb": them.peak_rss_mb,
        "part_of_memory": round(us.peak_rss_mb / them.peak_rss_mb, 3),
        "ok": us.said["cells"] == them.said["cells"],
    }


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """Run once for `dask`; the time is that of telling apart and measuring, from the store."""
    result = run(slide_of(options), options.work / "ours", tile_px=1024)
    report = result.report
    threads_s = report["stages_s"]["cells"]
    return {"cells": report["cells_summary"]["total"], "cells_s": threads_s, "ok": True}


def write(options: argparse.Namespace) -> dict[str, Any]:
    """Write a million cells that have been measured, from memory."""
    from cellseg.runtime.writers.cells_csv import write_cells_csv
    from cellseg.runtime.writers.cells_geojson import write_cells_geojson
    from cellseg.runtime.writers.cells_parquet import write_cells_parquet

    options.work.mkdir(parents=True, exist_ok=True)
    finished = _many_cells(options)
    found: dict[str, Any] = {"cells": options.cells}
    writers = {
        "cells.geojson.gz": write_cells_geojson,
        "cells.parquet": write_cells_parquet,
        "cells.csv": write_cells_csv,
    }
    for name, writer in writers.items():
        reset_peak_rss()
        before_mb, started = peak_rss_mb() or 0.0, time.perf_counter()
        writer(options.work / name, finished)
        found[name] = {
            "seconds": round(time.perf_counter() - started, 2),
            "extra_mb": round((peak_rss_mb() or 0.0) - before_mb, 1),
            "mb": round((options.work / name).stat().st_size / 1e6, 1),
        }
    both = [found[name] for name in ("cells.geojson.gz", "cells.parquet")]
    found["seconds_both"] = round(sum(each["seconds"] for each in both), 2)
    return found | {"ok": found["seconds_both"] < 60 and max(e["extra_mb"] for e in both) < 500}


def _many_cells(options: argparse.Namespace) -> Any:
    """Return a run whose cells are those of a few thousand pixels, over and over in new places."""
    from types import SimpleNamespace

    from cellseg.runtime.cells.file_cells import FileCells
    from cellseg.runtime.cells.measure import CellMeasurer
    from cellseg.runtime.jobs.job import prepare
    from cellseg.runtime.store.labels import ArrayLabels

    options.side = 2048
    slide = slide_of(options)
    bundle = oracle_bundle(options.work / "oracle.cellseg")
    job = prepare(slide, bundle, InferOptions(tile_px=512))
    labels = slide.truth((0, 0), (options.side, options.side))
    numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint32)
    classes = ArrayLabels((labels > 0).astype(np.uint8))
    cells = FileCells(ArrayLabels(numbers), CellMeasurer.of(job, classes, None), numbers.max())
    some = list(cells.batches())
    return SimpleNamespace(job=job, measured=_Repeated(some, options.cells))


class _Repeated:
    """Cells again and again, each time further down."""

    def __init__(self, lots: list[MeasuredCells], count: int) -> None:
        self._lots, self._count = lots, count

    def __len__(self) -> int:
        return self._count

    def batches(self) -> Any:
        from cellseg.runtime.cells.measured import MeasuredCells

        left, down = self._count, 0
        while left > 0:
            for lot in self._lots:
                part = lot.part(0, left)
                records = part.records.copy()
                records["box"][:, [0, 2]] += down
                records["centroid_yx"][:, 0] += down
                if len(part):
                    yield MeasuredCells(records, part.outlines)
                left -= len(part)
            down += 2048


def polygons(options: argparse.Namespace) -> dict[str, Any]:
    """Fill the polygons of nuclei, by pixel centres, and hold them against their pixels."""
    import gzip

    from skimage.draw import polygon2mask

    options.side = 1024
    result = run(slide_of(options, touching=True), options.work / "polygons")
    labels = _labels(result)
    with gzip.open(result.folder / "cells.geojson.gz") as file:
        features = json.load(file)["features"]
    found = []
    for feature in features:
        ring = np.array(feature["geometry"]["coordinates"][0])[:-1]
        low, high = np.floor(ring.min(axis=0)).astype(int), np.ceil(ring.max(axis=0)).astype(int)
        filled = polygon2mask((high - low)[::-1], (ring - low)[:, ::-1] - 0.5)
        number = feature["properties"]["measurements"]["id"]
        mask = labels[low[1] : high[1], low[0] : high[0]] == number
        found.append((mask & filled).sum() / (mask | filled).sum())
    median = float(np.median(found))
    return {
        "cells": len(found),
        "median_iou": median,
        "least_iou": min(found),
        "ok": median >= 0.99,
    }


PARTS = {f.__name__: f for f in (truth, same, whole, dask, ours, write, polygons)}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--side", type=int, default=4096, help="of the slide, pixels")
    parser.add_argument("--tiles", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--regions", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="has dask-image")
    parser.add_argument("--timeout", type=float, default=7200.0)
    parser.add_argument("--work", type=Path, default=Path("runs/cells"))
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "cells.json")
    return parser.parse_args()


def main() -> None:
    """Measure one part, print it, keep it."""
    options = parse()
    found = PARTS[options.part](options)
    print(json.dumps(found))
    if options.part != "ours":
        record = json.loads(options.out.read_text()) if options.out.exists() else {}
        facts = this_machine()
        record[options.part] = found | {"machine": f"{facts.cpu}, {facts.cores} cores"}
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sys.exit(not found["ok"])


if __name__ == "__main__":
    main()
