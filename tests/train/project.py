"""A seed's project on disk: tiny images of the same form, and a configuration file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CONFIG = """[model]
model          = "TensorflowUNet"
generator      = True
image_width    = 32
image_height   = 32
num_classes    = 1
base_filters   = 4
base_kernels   = (5,5)
num_layers     = 3
dropout_rate   = 0.05
learning_rate  = 0.003
clipvalue      = 0.5
loss           = "bce_dice_loss"
[train]
epochs         = 2
batch_size     = 2
steps_per_epoch  = 3
validation_steps = 2
model_dir      = "./models"
image_datapath = "../data/train/images/"
mask_datapath  = "../data/train/masks/"
learning_rate_reducer = True
epoch_change_infer     = True
epoch_change_tiledinfer     = True
num_infer_images       = 1
[eval]
image_datapath = "../data/valid/images/"
mask_datapath  = "../data/valid/masks/"
[test]
image_datapath = "../data/test/images/"
mask_datapath  = "../data/test/masks/"
[infer]
images_dir    = "./mini_test/images/"
output_dir    = "./mini_test_output"
merged_dir    = "./mini_test_output_merged"
[tiledinfer]
overlapping = 8
images_dir    = "./mini_test/images/"
output_dir    = "./tiled_mini_test_output"
[mask]
binarize   = True
threshold  = 127
[augmentor]
angles   = [90. 180, 270,]
deformation = True
[deformation]
alpah    = 1300
"""


def write_discs(folder: Path, count: int, hw: tuple[int, int], suffix: str = ".png") -> None:
    """Write bright discs on a dark ground, as images and 0/255 masks."""
    rng = np.random.default_rng(hw[0] + count)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[: hw[0], : hw[1]]
    for index in range(count):
        cy, cx = rng.integers(8, hw[0] - 8), rng.integers(8, hw[1] - 8)
        mask = np.hypot(y - cy, x - cx) < min(hw) / 4
        image = np.where(mask, 190, 60) + rng.integers(0, 20, hw)
        color = np.stack([image, image * 0.8, image * 0.6], -1).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{index}{suffix}"), color)
        cv2.imwrite(str(folder / "masks" / f"{index}.png"), mask.astype(np.uint8) * 255)


def write_project(root: Path) -> Path:
    """Write a project folder with its data beside it; returns the configuration file."""
    for split, count in (("train", 5), ("valid", 2), ("test", 2)):
        write_discs(root / "data" / split, count, (40, 56), ".jpg")
    project = root / "project"
    write_discs(project / "mini_test", 2, (70, 90))
    path = project / "train_eval_infer.config"
    path.write_text(CONFIG)
    return path
