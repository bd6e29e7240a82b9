"""TIAToolbox 2: SemanticSegmentor over the slide, torch, its default stride, batch and output."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import torch
from driver import Request, serve
from torch_network import load_network


def _declare_nms() -> torch.library.Library | None:
    """Declare the two operators that torchvision asks for even where its own library cannot load.

    A torchvision built for CUDA beside a torch for the CPU is such a case; nothing here calls it.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    try:
        torch.ops.load_library(next(Path(spec.origin).parent.glob("_C*.so")))
    except (OSError, StopIteration):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


DECLARED = _declare_nms()

from tiatoolbox.models.engine.io_config import IOSegmentorConfig  # noqa: E402
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor  # noqa: E402
from tiatoolbox.models.models_abc import ModelABC  # noqa: E402

BATCH = 8


class Network(ModelABC):
    """The network in the toolbox's own terms."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.network = load_network(path)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map planar floats to probabilities."""
        return self.network(image)

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """Map interleaved bytes (N, H, W, 3) to probabilities (N, H, W, 2)."""
        planes = torch.as_tensor(batch_data).to(device).permute(0, 3, 1, 2).float()
        with torch.inference_mode():
            return model(planes).permute(0, 2, 3, 1).cpu().numpy()

    @staticmethod
    def postproc(image: np.ndarray) -> np.ndarray:
        """Decide, as the toolbox's own UNet does."""
        return np.argmax(image, axis=-1).astype(np.uint8)


def run(request: Request) -> str:
    """Segment level 0 and keep the toolbox's zarr."""
    torch.set_num_threads(request.threads)
    folder = Path(request.out)
    shutil.rmtree(folder, ignore_errors=True)
    side = request.patch_px
    step = side - round(side * request.overlap)
    finest = [{"units": "baseline", "resolution": 1.0}]
    engine = SemanticSegmentor(
        model=Network(request.model), batch_size=BATCH, num_workers=0, device="cpu", verbose=False
    )
    done = engine.run(
        images=[Path(request.slide)],
        patch_mode=False,
        ioconfig=IOSegmentorConfig(
            input_resolutions=finest,
            output_resolutions=finest,
            patch_input_shape=(side, side),
            patch_output_shape=(side, side),
            stride_shape=(step, step),
            save_resolution=finest[0],
        ),
        auto_get_mask=False,
        output_type="zarr",
        save_dir=folder,
        overwrite=True,
    )
    return str(Path(next(iter(done.values()))) / "predictions")


if __name__ == "__main__":
    serve(run)
