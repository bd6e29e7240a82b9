"""cellseg: what ``cellseg-cli infer`` calls, the class map its only output."""

from __future__ import annotations

import os
from pathlib import Path

# What `infer` imports only when it is needed: packages are imported before the clock starts.
import cv2  # noqa: F401
import numba  # noqa: F401
import tifffile  # noqa: F401
from driver import Request, serve

from cellseg.runtime.engines.openvino import OpenVinoEngine  # noqa: F401
from cellseg.runtime.infer import infer_slide
from cellseg.runtime.jobs.options import InferOptions


def run(request: Request) -> str:
    """Segment the slide; nothing chosen but the precision and that all of it is run."""
    options = InferOptions(
        model=request.model,
        precision=request.precision,
        tissue_mask=False,
        restart=True,
        write=("classes",),
    )
    return os.fspath(
        infer_slide(request.slide, Path(request.out), options).files["classes.ome.tif"]
    )


if __name__ == "__main__":
    serve(run)
