"""Segment an image that is already in memory: python examples/segment_array.py IMAGE."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

import cellseg

DEMO_SLIDE = Path(__file__).parent / "cmu-1-small-region.svs"


def main(path: str | None = None) -> None:
    rgb = read_rgb(path) if path else read_corner(DEMO_SLIDE)
    with cellseg.Segmenter.load("nuclei") as segmenter:
        found = segmenter(rgb)
    share = np.count_nonzero(found.classes) / found.classes.size
    print(f"{rgb.shape[1]} x {rgb.shape[0]} px: {share:.1%} of it is nuclei")
    print(f"{found.cell_count} nuclei")


def read_rgb(path: str) -> np.ndarray:
    bgr = cv2.imread(path)
    if bgr is None:
        sys.exit(f"error: {path} is not an image that OpenCV reads")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def read_corner(path: Path) -> np.ndarray:
    """Read 512 x 512 px of a slide's level 0."""
    from cellseg.runtime.slides.readers import open_slide

    slide = open_slide(path)
    try:
        return slide.read_region(0, (1024, 1024), (512, 512))
    finally:
        slide.close()


if __name__ == "__main__":
    main(*sys.argv[1:2])
