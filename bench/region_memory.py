"""Measure what telling the cells of one region apart holds, and measuring them, at most.

    python bench/region_memory.py

Prints bytes a pixel of the window, for the usual margin and for the largest, over foregrounds that
are hard in their own ways; `cellseg.runtime.cells.regions.WINDOW_BYTES_PER_PX` must lie above all
of them. The last column is what measuring holds at its most, for a slide read at ``--scale``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.cells.measure import CellMeasurer
from cellseg.runtime.cells.regions import WINDOW_BYTES_PER_PX, SeededLabeller, find_cells
from cellseg.runtime.machine.malloc import EVERY_BUFFER, return_freed_memory
from cellseg.runtime.memory.budget import peak_rss_mb, reset_peak_rss, resident_bytes
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.view.working import WorkingView

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE_PX = 3072
CORE = (1024, 1024, 1024, 1024)
MARGINS_PX = (128, 512)
MPP = 0.5


@dataclass(frozen=True)
class Map:
    """An array as a label source: each window is a copy, as one that was unpacked is."""

    values: NDArray[np.uint8]
    dtype = np.dtype(np.uint8)

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.values.shape[0], self.values.shape[1]

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[np.uint8]:
        """Return a window."""
        return self.values[y0 : y0 + h, x0 : x0 + w].copy()


def hard_maps() -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Return class map and interior of each kind of foreground."""
    rng = np.random.default_rng(0)
    hw = (SIDE_PX, SIDE_PX)
    noise = rng.integers(0, 256, hw, np.uint8)
    full = np.ones(hw, np.uint8)
    found = {"noise": ((noise > 127).astype(np.uint8), noise)}
    for step in (5, 6, 12, 24):
        seeds = np.zeros(hw, np.uint8)
        for dy in range(min(5, step - 1)):
            for dx in range(min(5, step - 1)):
                seeds[dy::step, dx::step] = 255
        found[f"all, a seed every {step} px"] = (full, seeds)
    return found


def peak_mib(before_bytes: int) -> float:
    """Return the peak since it was reset, above what was held before."""
    return (peak_rss_mb() or 0.0) - before_bytes / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="pixels read per working pixel")
    arguments = parser.parse_args()
    return_freed_memory(EVERY_BUFFER)
    side = round(SIDE_PX * arguments.scale)
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    view = WorkingView(ArraySlide(pixels, mpp=MPP / arguments.scale), MPP)
    rule = Bundle.open("nuclei").manifest.head.instances
    assert rule is not None
    print(f"counted: {WINDOW_BYTES_PER_PX} bytes a pixel\n")
    print("| foreground | margin, px | cells | bytes a pixel | measuring, MiB |")
    print("|---|---|---|---|---|")
    for name, (classes, interior) in hard_maps().items():
        labeller = SeededLabeller(Map(classes), Map(interior), rule)
        measurer = CellMeasurer(view, Map(classes), 2, Map(interior))
        find_cells(labeller, (0, 0, 64, 64))  # kernels are loaded once
        for margin_px in MARGINS_PX:
            before_bytes = resident_bytes() or 0
            reset_peak_rss()
            region = find_cells(labeller, CORE, margin_px)
            found_mib = peak_mib(before_bytes)
            reset_peak_rss()
            measured = measurer.measure_own(region)
            reached_px = CORE[0] - region.window_yx[0]  # a cell that is cut lets the window grow
            window_px = (CORE[2] + 2 * reached_px) ** 2
            print(
                f"| {name} | {reached_px} | {len(measured)} | {found_mib * 2**20 / window_px:.0f} "
                f"| {peak_mib(before_bytes):.0f} |"
            )
            del region, measured


if __name__ == "__main__":
    main()
