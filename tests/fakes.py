"""Engines, models and slides without a model file: what pipeline tests run on.

The convolution engine is a real network of known reach in plain NumPy. Each value is computed by
the same operations in the same order wherever the tile lies, so that tiled and whole results are
equal to the last bit.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.bundles.bundle import Bundle, Manifest, write_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CONV_STRIDE_PX = 2
CONV_REACH_PX = 6
CELL_RULE = {
    "kind": "interior-border",
    "interior_channel": 1,
    "seed_threshold": 0.5,
    "min_area_px": 4,
}
"""How cells are told apart: where the nucleus channel is sure, one is."""
CELL_HEAD = {"kind": "softmax", "instances": CELL_RULE}


class FakeEngine:
    """Base of the fakes: one channel that says how sure a pixel is foreground, and its rest."""

    name = "fake"
    precision = "fp32"
    device = "cpu"
    threads = 1

    def __init__(
        self, tile_hw: tuple[int, int], *, concurrency: int = 1, delay_s: float = 0.0
    ) -> None:
        self.tile_hw = tile_hw
        self.concurrency = concurrency
        self.delay_s = delay_s
        self.calls = 0
        self.is_closed = False
        self._lock = threading.Lock()

    def infer(
        self, tile: NDArray[np.uint8], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        assert tile.shape == (*self.tile_hw, 3)
        assert tile.dtype == np.uint8
        with self._lock:
            self.calls += 1
        if self.delay_s:
            time.sleep(self.delay_s)
        sure = self.foreground(tile)
        result = np.empty((*self.tile_hw, 2), np.float32) if out is None else out
        result[..., 0], result[..., 1] = 1 - sure, sure
        return result

    def foreground(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the foreground probability, float32 (h, w)."""
        raise NotImplementedError

    def close(self) -> None:
        self.is_closed = True


class IdentityEngine(FakeEngine):
    """Foreground is the green channel."""

    def foreground(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        return tile[..., 1].astype(np.float32) / np.float32(255)


class TwoClassEngine(IdentityEngine):
    """What is foreground is of a second class where it is bright."""

    def infer(
        self, tile: NDArray[np.uint8], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        result = np.empty((*self.tile_hw, 3), np.float32) if out is None else out
        super().infer(tile, result)
        result[..., 2] = np.where(tile[..., 1] > 190, result[..., 1] + np.float32(0.1), 0)
        return result


class ConvEngine(FakeEngine):
    """Three 3x3 convolutions around a pooling: stride 2, reach 6, zeros outside."""

    def __init__(self, tile_hw: tuple[int, int], **options: Any) -> None:
        super().__init__(tile_hw, **options)
        rng = np.random.default_rng(7)
        self.weights = [rng.normal(0, 0.6, (3, 3)).astype(np.float32) for _ in range(3)]

    def foreground(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        first, second, third = self.weights
        x = tile[..., 1].astype(np.float32) / np.float32(128) - np.float32(1)
        fine = np.maximum(_convolve(x, first), 0)
        h, w = fine.shape
        coarse = fine.reshape(h // 2, 2, w // 2, 2).max(axis=(1, 3))
        coarse = np.maximum(_convolve(coarse, second), 0)
        mixed = fine - coarse.repeat(2, axis=0).repeat(2, axis=1)
        score = _convolve(mixed, third)
        return (score / (1 + np.abs(score)) + 1) / 2


class FailingEngine(IdentityEngine):
    """Fails at its n-th call."""

    fail_at = 3

    def foreground(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.calls >= self.fail_at:
            raise RuntimeError("out of patience")
        return super().foreground(tile)


def card_fields(**changes: Any) -> dict[str, Any]:
    """Fields of a two-class model card, with changes."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "version": "1",
        "description": "A network for tests.",
        "license": "CC0-1.0",
        "classes": [
            {"name": "background", "color": [0, 0, 0]},
            {"name": "nucleus", "color": [255, 200, 0]},
        ],
        "channels": [
            {"name": "background", "class_index": 0},
            {"name": "nucleus", "class_index": 1},
        ],
        "head": {"kind": "softmax", "instances": None},
        "stride": 4,
    }
    return fields | changes


def variant_fields(data: bytes, **changes: Any) -> dict[str, Any]:
    """Entry of a manifest that fits the data."""
    fields: dict[str, Any] = {
        "file": "model.fp32.onnx",
        "format": "onnx",
        "precision": "fp32",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }
    return fields | changes


def fake_bundle(path: Path, **changes: Any) -> Bundle:
    """Write a bundle whose model file is no model: for runs that bring a fake engine."""
    data, file = b"not a model", "model.fp32.tflite"
    fields = card_fields(
        name="fake",
        stride=CONV_STRIDE_PX,
        halo_px=CONV_REACH_PX,
        receptive_field_px=CONV_REACH_PX,
        variants=[variant_fields(data, file=file, format="tflite")],
    )
    return write_bundle(path, Manifest.model_validate(fields | changes), {file: data})


def nuclei_picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Paint an RGB image of bright discs on a dim ground with noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (height, width)).astype(np.uint8)
    y, x = np.ogrid[:height, :width]
    for _ in range(max(1, height * width // 900)):
        cy, cx, r = rng.integers(0, height), rng.integers(0, width), rng.integers(3, 9)
        image[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = rng.integers(120, 255)
    return np.repeat(image[..., None], 3, axis=2)


def _convolve(x: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convolve with zeros outside: shifted copies, added in one fixed order."""
    padded = np.pad(x, 1)
    h, w = x.shape
    total = np.zeros_like(x)
    for dy in range(3):
        for dx in range(3):
            total += kernel[dy, dx] * padded[dy : dy + h, dx : dx + w]
    return total


def run_fake(
    slide: Any, out_dir: Any, bundle: Any, *, kind: str = "ConvEngine", **changes: Any
) -> Any:
    """Run `infer_slide` with a fake engine; ``engine`` holds its options, the rest are run options.

    Returns the result and the engine that was opened, or None.
    """
    from cellseg.runtime.infer import infer_slide
    from cellseg.runtime.jobs.options import InferOptions

    opened: list[FakeEngine] = []
    engine_options = changes.pop("engine_options", {})
    progress = changes.pop("progress", None)

    def open_engine(_: Any, __: Any, tile_hw: tuple[int, int]) -> FakeEngine:
        opened.append(globals()[kind](tile_hw, **engine_options))
        return opened[-1]

    options = InferOptions(model=bundle, **changes)
    result = infer_slide(slide, out_dir, options, progress, open_engine=open_engine)
    return result, opened[-1] if opened else None
