"""Every model family as small as it gets, trained a little: made once, used by many tests."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import Any

import keras
import numpy as np

from cellseg.train.families import build_model, parse_params
from cellseg.train.objectives import make_loss

SMALL: dict[str, dict[str, Any]] = {
    "unet": {
        "base_filters": 4, "levels": 3, "base_kernel": 5, "dilation": 2, "dropout_rate": 0.1,
        "normalization": "batch",
    },
    "flex-unet": {"base_filters": 4, "levels": 3, "activation": "mish", "normalization": "layer"},
    "stem-unet": {"base_filters": 4, "levels": 2, "head_filters": 4},
    "attention-unet": {"base_filters": 4, "levels": 3, "dropout_rate": 0.1},
    "multires-unet": {"base_filters": 6, "levels": 3},
    "unet3plus": {"base_filters": 4, "levels": 3, "dropout_rate": 0.1},
    "efficient-unet": {"decoder_filters": (8, 8, 4, 4, 4)},
    "lite-unet": {"levels": 2, "decoder_filters": (4, 4, 4, 4), "head_filters": 4},
    "deeplab-v3plus": {"filters": 4, "low_level_filters": 4, "atrous_rates": (2,)},
    "swin-unet": {
        "base_filters": 8, "levels": 2, "patch_px": 2, "heads": (2, 2), "windows": (4, 2),
        "mlp_filters": 8,
    },
}  # fmt: skip
"""Parameters of each family of the table."""

CLASSES = {"flex-unet": 3}
WITH_BACKBONE = ("efficient-unet", "deeplab-v3plus")
STEPS = 10


def small(name: str) -> keras.Model:
    """Build a small network with the same random weights each time."""
    keras.utils.set_random_seed(0)
    return build_model(name, SMALL[name], CLASSES.get(name, 1))


def batch(name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Two images with bright squares, and the class of each pixel."""
    stride = parse_params(name, SMALL[name]).stride
    side = -(-32 // stride) * stride
    rng = np.random.default_rng(0)
    truth = np.zeros((2, side, side, 1), np.int32)
    truth[0, 4:20, 6:18] = truth[1, 10:30, 2:14] = CLASSES.get(name, 2) - 1
    image = 60.0 + 120.0 * truth + rng.uniform(0, 40, (2, side, side, 3))
    return image.astype(np.float32), truth


def trained(name: str) -> tuple[keras.Model, list[float]]:
    """Train ten steps; the network, and the loss at each step."""
    model, (image, truth) = small(name), batch(name)
    loss = make_loss("bce_dice" if CLASSES.get(name, 1) == 1 else "crossentropy_dice")
    # Tracing takes longer than ten steps without.
    model.compile(keras.optimizers.Adam(3e-3), loss, run_eagerly=True)
    losses = [float(model.train_on_batch(image, truth)) for _ in range(STEPS)]
    return model, losses
