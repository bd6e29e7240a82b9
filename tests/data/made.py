"""Small annotated sources, made for the tests of `cellseg.data`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def scene(seed: int = 0, side: int = 64, discs: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """RGB image and instance labels: bright discs that do not touch."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.uint16)
    y, x = np.mgrid[:side, :side]
    for label in range(1, discs + 1):
        for _ in range(200):
            cy, cx, radius = *rng.integers(9, side - 9, 2), rng.integers(4, 7)
            disc = np.hypot(y - cy, x - cx) <= radius
            if not cv2.dilate(labels, np.ones((5, 5)))[disc].any():
                labels[disc] = label
                break
    ground = rng.integers(20, 40, (side, side, 3))
    image = np.where(labels[..., None] > 0, ground + np.array([150, 90, 120]), ground).astype(
        np.uint8
    )
    return image, labels


def save(path: Path, array: np.ndarray) -> Path:
    """Write an image; RGB where it has three channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)
    return path


def load(path: Path) -> np.ndarray:
    """Read an image as it is; RGB where it has three channels."""
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert array is not None, path
    return array[..., ::-1] if array.ndim == 3 else array


def write_source(folder: Path, count: int = 3, mask: str = "binary", suffix: str = ".png") -> Path:
    """Images and masks of one form: binary, index, palette, cutout or instances."""
    for index in range(count):
        image, labels = scene(index)
        save(folder / "images" / f"{index}.png", image)
        save(folder / "masks" / f"{index}{suffix}", _mask(mask, image, labels))
    return folder


def classes_of(labels: np.ndarray) -> np.ndarray:
    """Odd objects are class 1, even ones class 2."""
    return np.where(labels > 0, 2 - labels % 2, 0).astype(np.uint8)


def _mask(kind: str, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if kind == "binary":
        return (labels > 0).astype(np.uint8) * 255
    if kind == "index":
        return classes_of(labels)
    if kind == "palette":
        return np.array([(0, 0, 0), (250, 190, 190), (0, 128, 128)], np.uint8)[classes_of(labels)]
    if kind == "cutout":
        return np.where(labels[..., None] > 0, image, 0).astype(np.uint8)
    return labels
