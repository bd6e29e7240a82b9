"""The whole image in one call of ONNX Runtime: the truth that all tilings are held against."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import tifffile
from driver import Request, room, serve


def run(request: Request) -> str:
    """Segment level 0 and save the class map as npy."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = request.threads
    session = ort.InferenceSession(request.model, options, providers=["CPUExecutionProvider"])
    image = tifffile.imread(request.slide, key=0)
    height, width = image.shape[:2]
    more = ((0, room(height, request)), (0, room(width, request)), (0, 0))
    planes = np.ascontiguousarray(np.pad(image, more, "edge").transpose(2, 0, 1)[None], np.float32)
    del image
    (two_classes,) = session.run(None, {"image": planes})
    out = request.out + ".npy"
    np.save(out, (two_classes[0, 1, :height, :width] >= 0.5).astype(np.uint8))
    return out


if __name__ == "__main__":
    serve(run)
