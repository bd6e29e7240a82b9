"""What telling cells apart costs, kernel by kernel, in CPU time: it stands a busy machine.

    python bench/cells_kernels.py [SLIDE] [--side 2048] [-n 7]

Takes what the model says of the middle of a slide and times each step of a region on it: the least
of n, over all pixels and over those of the foreground. Prints JSON and adds it to
bench/results/cells_kernels.json. What cells cost a whole run: bench/cells_cost.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.cells import parting as cells
from cellseg.runtime.cells.measure import CellMeasurer
from cellseg.runtime.cells.parting import (
    CellScratch,
    interior_steps,
    judged_cells,
    label_cells,
    part_cells,
)
from cellseg.runtime.cells.regions import CORE_PX, MARGIN_PX, SeededLabeller, find_cells
from cellseg.runtime.kernels import measure, outline
from cellseg.runtime.machine.facts import this_machine
from cellseg.runtime.segmenter import Segmenter
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.store.packing import pack
from cellseg.runtime.view.working import WorkingView

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
SLIDE = HERE.parent / "examples" / "cmu-1-small-region.svs"
_PARTING = tuple((cells, name) for name in ("find_runs", "smoothed", "part_pieces"))
_MEASURING = (
    (measure, "measure_shapes"),
    (measure, "sum_values"),
    (outline, "simplify_rings"),
)


class Watch:
    """Keeps the least CPU time of each step."""

    def __init__(self) -> None:
        self.least_s: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a step; return what it returns."""
        started_s = time.thread_time()
        found = work()
        took_s = time.thread_time() - started_s
        self.least_s[name] = min(took_s, self.least_s.get(name, took_s))
        return found


def kernels(options: argparse.Namespace) -> dict[str, Any]:
    """Time each step of a region on real predictions."""
    rgb = _middle(options.slide or SLIDE, options.side)
    segmenter = Segmenter.load(options.model, precision=options.precision)
    found = segmenter(rgb)
    rule = segmenter.bundle.manifest.head.instances
    assert rule is not None, "a model that tells cells apart"
    cv2.setNumThreads(1)  # or others would smooth on our time
    interior, watch = interior_steps(found.probabilities, rule), Watch()
    for _ in range(options.n):
        _time_parting(watch, found.classes, interior, rule)
        _time_measuring(watch, rgb, found.classes, interior, rule)
    foreground = float((found.classes > 0).mean())
    pixels = found.classes.size
    return {
        "slide": Path(options.slide or SLIDE).name,
        "hw": list(found.classes.shape),
        "foreground": round(foreground, 3),
        "cells": int(label_cells(found.classes, interior, rule)[1].size),
        "ns_per_px": {name: _ns(s, pixels) for name, s in watch.least_s.items()},
        "ns_per_foreground_px": {
            name: _ns(s, pixels * foreground) for name, s in watch.least_s.items()
        },
    }


def _ns(seconds: float, pixels: float) -> float:
    return round(seconds / pixels * 1e9, 2)


def _middle(path: Path, side: int) -> NDArray[np.uint8]:
    slide = open_slide(path)
    try:
        view = WorkingView(slide, Bundle.open("nuclei").manifest.mpp)
        h, w = (min(side, extent) for extent in view.hw)
        return view.read((view.hw[0] - h) // 2, (view.hw[1] - w) // 2, h, w)
    finally:
        slide.close()


def _time_parting(
    watch: Watch, classes: NDArray[np.uint8], interior: NDArray[np.uint8], rule: Any
) -> None:
    """Time what `part_cells` does, step by step, and as a whole; then its judgement and a map."""
    scratch = CellScratch(classes.shape)
    with ExitStack() as stack:
        for module, name in _PARTING:
            stack.enter_context(_timed(module, name, watch))
        found = watch("part_cells, all of it", lambda: part_cells(classes, interior, rule, scratch))
    found = watch("judged_cells", lambda: judged_cells(found, interior, rule, scratch))
    watch("paint labels", lambda: found.painted(classes.shape))


def _time_measuring(
    watch: Watch,
    rgb: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    interior: NDArray[np.uint8],
    rule: Any,
) -> None:
    """Time measurements and outlines, step by step; then a region as a whole, a core's pixels."""
    found = part_cells(classes, interior, rule)
    first = found.first(classes.shape[1])
    view, maps = WorkingView(ArraySlide(rgb), None), (ArrayLabels(classes), ArrayLabels(interior))
    measurer = CellMeasurer(view, maps[0], int(classes.max()) + 1)
    with ExitStack() as stack:
        for module, name in _MEASURING:
            stack.enter_context(_timed(module, name, watch))
        measured = watch("measure, all of it", lambda: measurer.measure(found, first, (0, 0)))
    watch("pack", lambda: (pack(found.runs.T.astype(np.uint16)), measured.packed_outlines()))
    labeller, side = SeededLabeller(*maps, rule), min(CORE_PX, *classes.shape)
    y, x = (min(MARGIN_PX, extent - side) for extent in classes.shape)
    started_s = time.thread_time()
    measurer.measure_own(find_cells(labeller, (y, x, side, side)))
    name = f"a region of {side} px, per pixel of the core"
    took_s = (time.thread_time() - started_s) * classes.size / side**2
    watch.least_s[name] = min(took_s, watch.least_s.get(name, took_s))


class _timed:
    """While it lasts, calls of one function of a module are timed."""

    def __init__(self, module: Any, name: str, watch: Watch) -> None:
        self._module, self._name, self._watch = module, name, watch
        self._kernel = getattr(module, name)

    def __enter__(self) -> None:
        def timed(*arguments: Any) -> Any:
            return self._watch(self._name, lambda: self._kernel(*arguments))

        setattr(self._module, self._name, timed)

    def __exit__(self, *_: object) -> None:
        setattr(self._module, self._name, self._kernel)


def main() -> None:
    """Measure, print it, keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", nargs="?", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--side", type=int, default=2048, help="pixels of the middle of the slide")
    parser.add_argument("-n", type=int, default=7, help="times each kernel is timed")
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "cells_kernels.json")
    options = parser.parse_args()
    found, facts = kernels(options), this_machine()
    found |= {"machine": f"{facts.cpu}, {facts.cores} cores", "load": round(os.getloadavg()[0], 1)}
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    record = json.loads(options.out.read_text()) if options.out.exists() else {}
    record[found["slide"]] = found
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
