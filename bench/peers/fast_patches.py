"""FAST: importer, patch generator, network, stitcher, pyramid on disk, as its tutorial has them."""

from __future__ import annotations

import fast
from driver import Request, serve

NETWORK = {"inferenceEngine": "OpenVINO", "scaleFactor": 1.0}


def run(request: Request) -> str:
    """Segment the slide and write FAST's own pyramidal TIFF.

    FAST counts the overlap of each side by itself, hence half of it.
    """
    out = request.out + ".tiff"
    importer = fast.WholeSlideImageImporter.create(request.slide)
    patches = fast.PatchGenerator.create(
        request.patch_px, request.patch_px, level=0, overlapPercent=request.overlap / 2
    ).connect(importer)
    network = fast.SegmentationNetwork.create(request.model, **NETWORK).connect(patches)
    stitcher = fast.PatchStitcher.create().connect(network)
    finished = fast.RunUntilFinished.create().connect(stitcher)
    exporter = fast.TIFFImagePyramidExporter.create(out).connect(finished)
    exporter.run()
    return out


if __name__ == "__main__":
    serve(run)
