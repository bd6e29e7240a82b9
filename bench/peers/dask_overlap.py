"""The honest twenty lines: dask map_overlap with the halo the network needs, on ONNX Runtime.

One session shared by as many workers as there are cores, one thread in each call.
"""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import onnxruntime as ort
import tifffile
import zarr
from driver import Request, room, serve


def run(request: Request) -> str:
    """Segment level 0 and save the class map as zarr."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(request.model, options, providers=["CPUExecutionProvider"])

    def classes(block: np.ndarray) -> np.ndarray:
        height, width = block.shape[:2]
        more = ((0, room(height, request)), (0, room(width, request)), (0, 0))
        planes = np.pad(block, more, "edge").transpose(2, 0, 1)[None].astype(np.float32)
        classes = session.run(None, {"image": planes})[0][0].argmax(0).astype(np.uint8)
        return classes[:height, :width, None]

    store = tifffile.imread(request.slide, aszarr=True, level=0)
    image = da.from_zarr(zarr.open(store, mode="r"))
    image = image.rechunk((request.patch_px, request.patch_px, 3))
    depth = {0: request.halo_px, 1: request.halo_px, 2: 0}
    mapped = da.map_overlap(
        classes,
        image,
        depth=depth,
        boundary="none",
        trim=False,
        dtype=np.uint8,
        chunks=_grown(image.chunks, request.halo_px),
        meta=np.empty((0, 0, 0), np.uint8),
    )
    kept = da.overlap.trim_overlap(mapped, depth={**depth}, boundary="none")
    out = request.out + ".zarr"
    with dask.config.set(scheduler="threads", num_workers=request.threads):
        kept.to_zarr(out, overwrite=True)
    return out


def _grown(
    chunks: tuple[tuple[int, ...], ...], halo_px: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Sizes of the blocks with their halos; the slide's own ends have none."""
    rows, cols = (
        tuple(size + halo_px * ((i > 0) + (i < len(axis) - 1)) for i, size in enumerate(axis))
        for axis in chunks[:2]
    )
    return rows, cols, (1,)


if __name__ == "__main__":
    serve(run)
