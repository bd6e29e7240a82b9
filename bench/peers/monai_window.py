"""MONAI: sliding_window_inference over the image in memory, torch, overlap and Gaussian blend."""

from __future__ import annotations

import numpy as np
import tifffile
import torch
from driver import Request, serve
from monai.inferers import sliding_window_inference
from torch_network import load_network


def run(request: Request) -> str:
    """Segment level 0 and save the class map as npy."""
    torch.set_num_threads(request.threads)
    network = load_network(request.model)
    image = tifffile.imread(request.slide, key=0)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    del image
    with torch.inference_mode():
        probabilities = sliding_window_inference(
            planes,
            roi_size=(request.patch_px, request.patch_px),
            sw_batch_size=1,
            predictor=network,
            overlap=request.overlap,
            mode="gaussian",
        )
        classes = probabilities.argmax(1)[0].to(torch.uint8).numpy()
    out = request.out + ".npy"
    np.save(out, classes)
    return out


if __name__ == "__main__":
    serve(run)
