"""Folders of small labelled images: bright discs on a dark field."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def draw_discs(
    seed: int, hw: tuple[int, int] = (64, 80), count: int = 5
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """RGB image with noise, and the label map of its discs."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(hw, np.uint16)
    for index in range(1, count + 1):
        centre = int(rng.integers(hw[1])), int(rng.integers(hw[0]))
        cv2.circle(labels, centre, int(rng.integers(4, 9)), index, -1)
    grey = rng.normal(30, 8, hw) + 150 * (labels > 0)
    image = np.clip(grey, 0, 255).astype(np.uint8)[..., np.newaxis].repeat(3, -1)
    return image, labels


def write_labelled(folder: Path, seeds: range, **options: Any) -> Path:
    """Write images/, masks/ and labels/, and classes.json beside them."""
    for name in ("images", "masks", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        image, labels = draw_discs(seed, **options)
        write_png(folder / "images" / f"{seed}.png", image)
        write_png(folder / "masks" / f"{seed}.png", ((labels > 0) * 255).astype(np.uint8))
        write_png(folder / "labels" / f"{seed}.png", labels)
    classes = [{"value": 0, "name": "background"}, {"value": 255, "name": "nucleus"}]
    (folder / "classes.json").write_text(json.dumps({"classes": classes}))
    return folder


def write_png(path: Path, image: NDArray[Any]) -> None:
    """Write RGB or one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)
