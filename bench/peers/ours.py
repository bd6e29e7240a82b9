"""cellseg: what ``cellseg-cli infer`` calls, the class map its only output."""

from __future__ import annotations

import os
from pathlib import Path

from driver import Request, serve

from cellseg.runtime.infer import infer_slide
from cellseg.runtime.options import InferOptions


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
