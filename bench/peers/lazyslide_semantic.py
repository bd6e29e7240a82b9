"""LazySlide: its semantic segmentation over a grid of the whole slide, Gaussian blending, torch.

What it gives are polygons; they are painted into a class map, and that is in the time.
"""

from __future__ import annotations

from typing import Any

import cv2
import lazyslide as zs
import numpy as np
import torch
from driver import Request, serve
from lazyslide_models.base import SegmentationModel, SegmentationOutput
from torch_network import load_network
from wsidata import open_wsi

FOUND = "foreground"
FRACTION_BITS = 4


class Network(SegmentationModel):
    """The network in LazySlide's own terms."""

    def __init__(self, path: str) -> None:
        self.model = load_network(path)

    def to(self, device: Any) -> Network:
        """Stay where it is: the processor."""
        return self

    def get_transform(self) -> Any:
        """Give tiles as they are: the network wants 0 to 255."""
        return lambda tile: torch.from_numpy(np.array(tile)).permute(2, 0, 1).float()

    def segment(self, image: torch.Tensor) -> SegmentationOutput:
        """Map planar floats (B, 3, H, W) to probabilities (B, 2, H, W)."""
        with torch.inference_mode():
            return SegmentationOutput(probability_map=self.model(image))


def run(request: Request) -> str:
    """Segment level 0 and save the painted polygons as npy."""
    torch.set_num_threads(request.threads)
    wsi = open_wsi(request.slide)
    zs.pp.tile_tissues(
        wsi, request.patch_px, overlap=request.overlap or None, edge=True, tissue_key=None,
        background_filter=False,
    )  # fmt: skip
    zs.seg.semantic(
        wsi, model=Network(request.model), mode="gaussian", batch_size=1, device="cpu",
        key_added=FOUND, pbar=False,
    )  # fmt: skip
    height, width = wsi.properties.shape
    classes = np.zeros((height, width), np.uint8)
    for shape in wsi.shapes[FOUND].geometry:
        for polygon in getattr(shape, "geoms", [shape]):
            rings = [polygon.exterior, *polygon.interiors]
            scaled = [np.asarray(ring.coords)[:, :2] * 2**FRACTION_BITS for ring in rings]
            points = [ring.round().astype(np.int32) for ring in scaled]
            cv2.fillPoly(classes, points, 1, shift=FRACTION_BITS)
    out = request.out + ".npy"
    np.save(out, classes)
    return out


if __name__ == "__main__":
    serve(run)
