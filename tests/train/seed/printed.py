"""The configuration of each seed as its document prints it, and stand-in data of the same form.

Seeds 000 and 001 print fragments, one after the other; 002 and 004 a whole file; 003 none: there
its recipe stands for it, and its masks are colour maps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

BLOOD_CELL = """[model]
model          = "TensorflowUNet"
generator      = True
image_width    = 512
image_height   = 512
image_channels = 3
base_filters   = 16
base_kernels   = (7,7)
num_layers     = 7
dilation       = (2,2)
[model]
learning_rate  = 0.0001
[model]
model         = "TensorflowUNet"
generator     = False
[model]
loss           = "bce_dice_loss"
metrics        = ["dice_coef"]
[train]
learning_rate_reducer = True
reducer_factor     = 0.4
reducer_patience   = 4
[train]
patience      = 10
[mask]
blur      = True
blur_size = (3,3)
[train]
epoch_change_infer      = True
epoch_change_infer_dir  = "./epoch_change_infer"
epoch_change_tiledinfer = False
epoch_change_tiledinfer_dir = "./epoch_change_tiledinfer"
num_infer_images        = 6
"""

DEEP_CELL = """[model]
base_filters   = 16
base_kernels   = (9,9)
num_layers     = 8
dilation       = (3,3)
[model]
learning_rate  = 0.0001
[model]
model         = "TensorflowUNet"
generator     = True
[model]
loss           = "bce_dice_loss"
metrics        = ["dice_coef"]
[train]
learning_rate_reducer = True
reducer_factor     = 0.3
reducer_patience   = 3
[train]
patience      = 10
[train]
epoch_change_infer       = True
epoch_change_infer_dir   =  "./epoch_change_infer"
epoch_changeinfer        = False
epoch_changeinfer_dir    = "./epoch_changeinfer"
num_infer_images         = 6
"""

LEUKEMIA = """; train_eval_infer.config
; 2023/5/10 antillia.com

[model]
image_width    = 256
image_height   = 256
image_channels = 3
num_classes    = 1
base_filters   = 16
num_layers     = 6
dropout_rate   = 0.08
learning_rate  = 0.001
show_summary   = True

[train]
epochs        = 100
batch_size    = 4
patience      = 10
model_dir     = "./models"
eval_dir      = "./eval"

image_datapath = "./ALL/train/original/"
mask_datapath  = "./ALL/train/segmented/"
category       = "Early"

[eval]
image_datapath = "./ALL/test/original/"
mask_datapath  = "./ALL/test/segmented/"
category       = "Early"

[infer]\x20
images_dir    = "./mini_test"\x20
output_dir    = "./mini_test_output"

"""

SKIN_CANCER = """; train_eval_infer.config
; 2024/06/03 (C) antillia.com

[model]
model          = "TensorflowUNet"
generator      = True
image_width    = 512
image_height   = 512
image_channels = 3
input_normalize= False

num_classes    = 1
base_filters   = 16
;base_kernels   = (7,7)
base_kernels   = (5,5)

num_layers     = 8
dropout_rate   = 0.05
learning_rate  = 0.00004
clipvalue      = 0.5
;dilation       = (2,2)
dilation       = (1,1)

loss           = "bce_dice_loss"
metrics        = ["binary_accuracy"]
show_summary   = False

[dataset]
;Please specify a class name of your ImageDataset.
datasetclass   = "BaseImageMaskDataset"
color_order    = "bgr"

[train]
epochs         = 20
batch_size     = 2
steps_per_epoch  = 200
validation_steps = 100
patience       = 10
;metrics       = ["iou_coef", "val_iou_coef"]
metrics        = ["binary_accuracy", "val_binary_accuracy"]
model_dir      = "./models"
eval_dir       = "./eval"
image_datapath = "../../../dataset/Tiled-Skin-Cancer/train/images/"
mask_datapath  = "../../../dataset/Tiled-Skin-Cancer/train/masks/"
create_backup  = False

learning_rate_reducer = True
reducer_patience      = 4
save_weights_only     = True

;Inference execution flag on epoch_changed
epoch_change_infer     = True

; Output dir to save the infered masks on epoch_changed
epoch_change_infer_dir =  "./epoch_change_infer"

;Tiled-inference execution flag on epoch_changed
epoch_change_tiledinfer     = True

; Output dir to save the tiled-infered masks on epoch_changed
epoch_change_tiledinfer_dir =  "./epoch_change_tiledinfer"

; The number of the images to be inferred on epoch_changed.
num_infer_images       = 1


[eval]
image_datapath = "../../../dataset/Tiled-Skin-Cancer/valid/images/"
mask_datapath  = "../../../dataset/Tiled-Skin-Cancer/valid/masks/"

[test]\x20
image_datapath = "../../../dataset/Tiled-Skin-Cancer/test/images/"
mask_datapath  = "../../../dataset/Tiled-Skin-Cancer/test/masks/"

[infer]\x20
images_dir    = "./mini_test/images/"
output_dir    = "./mini_test_output"
;merged_dir    = "./mini_test_output_merged"

[tiledinfer]\x20
overlapping = 128
images_dir    = "./mini_test/images/"
output_dir    = "./tiled_mini_test_output"
;merged_dir    = "./tiled_mini_test_output_merged"
bitwise_blending = False
;binarize      = True
;threshold  = 127


[segmentation]
colorize   = False
black      = "black"
white      = "green"
blursize   = None

[mask]
blur       = False
binarize   = True
threshold  = 127

[generator]
debug         = False
augmentation  = True

[augmentor]
vflip    = True
hflip    = True
rotation = True
angles   = [90, 180, 270]
shrinks  = [0.8]
shears   = [0.1]

deformation = True
distortion  = True

[deformation]
alpah    = 1300
sigmoid  = 8

[distortion]
gaussian_filter_rsigma= 40
gaussian_filter_sigma = 0.5
distortions           = [0.03,]
"""

_PROJECT = "projects/TensorflowSlightlyFlexibleUNet"


def write_seed(seed: str, root: Path) -> Path:
    """Lay out a seed's folders as its document draws them; returns the recipe's file."""
    return _SEEDS[seed](root)


def _blood_cell(root: Path) -> Path:
    for split, count in (("train", 3), ("valid", 1), ("test", 2)):
        _write(root / "dataset/Blood-Cell" / split, count, (48, 64), ".png")
    return _project(root / _PROJECT / "Blood-Cell", BLOOD_CELL, (96, 128), ".png")


def _deep_cell(root: Path) -> Path:
    for split, count in (("train", 3), ("valid", 1), ("test", 2)):
        _write(root / "dataset/DeepCell" / split, count, (64, 64), ".jpg", grey=True)
    return _project(root / _PROJECT / "DeepCell", DEEP_CELL, (64, 64), ".jpg", grey=True)


def _leukemia(root: Path) -> Path:
    for split, count in (("train", 5), ("test", 2)):
        for index in range(count):
            image, mask = _picture(index, (56, 56))
            cutout = np.where(mask[..., None] > 0, image, 0)
            for name, array in (("original", image), ("segmented", cutout)):
                _save(root / "ALL" / split / name / "Early" / f"{index}.jpg", array)
    for index in range(2):
        _save(root / "mini_test" / f"{index}.jpg", _picture(index, (56, 56))[0])
    return _config(root, LEUKEMIA)


def _smear(root: Path) -> Path:
    colors = {0: (0, 0, 0), 1: (0, 255, 255), 9: (0, 255, 0)}
    for split, count in (("train", 4), ("valid", 1), ("test", 2)):
        for index in range(count):
            image, mask = _picture(index, (48, 48))
            classes = np.where(mask > 0, 1, 0)
            classes[:10, :10] = 9
            painted = np.zeros((48, 48, 3), np.uint8)
            for value, color in colors.items():
                painted[classes == value] = color[::-1]
            _save(root / split / "images" / f"{index}.bmp", image)
            _save(root / split / "masks" / f"{index}.bmp", painted)
    path = root / "smear.toml"
    path.write_text(_SMEAR, encoding="utf-8")
    return path


def _skin_cancer(root: Path) -> Path:
    for split, count in (("train", 3), ("valid", 1), ("test", 2)):
        _write(root / "dataset/Tiled-Skin-Cancer" / split, count, (64, 64), ".jpg", mask=".png")
    return _project(root / _PROJECT / "Tiled-Skin-Cancer", SKIN_CANCER, (150, 210), ".jpg")


_SMEAR = """name = "smear"
run = "models"

[model]
family = "flex-unet"
input_range = "-1..1"
base_filters = 32
levels = 5
activation = "leaky_relu"
negative_slope = 0.1
up_activation = true
initializer = "glorot_normal"

[[sources]]
name = "smears"
path = "."

[[classes]]
name = "background"
color = [0, 0, 0]
mask_colors = [[0, 0, 0]]

[[classes]]
name = "eosinophil"
color = [0, 255, 255]
mask_colors = [[0, 255, 255]]

[[classes]]
name = "healthy red cell"
color = [0, 255, 0]
mask_colors = [[0, 255, 0]]

[input]
size_px = [224, 224]

[normalize]
kind = "none"

[target]
kind = "classes"

[loss]
name = "categorical_crossentropy"
class_weights = "inverse"

[infer]
images = "test/images"

[bundle]
mpp = 0.0
"""

_SEEDS = {
    "000": _blood_cell,
    "001": _deep_cell,
    "002": _leukemia,
    "003": _smear,
    "004": _skin_cancer,
}


def _project(folder: Path, text: str, hw: tuple[int, int], suffix: str, grey: bool = False) -> Path:
    for index in range(2):
        image = _picture(index, hw, grey)[0]
        _save(folder / "mini_test" / "images" / f"{index}{suffix}", image)
    return _config(folder, text)


def _config(folder: Path, text: str) -> Path:
    path = folder / "train_eval_infer.config"
    path.write_text(text, encoding="utf-8")
    return path


def _write(folder: Path, count: int, hw: tuple[int, int], suffix: str, **form: Any) -> None:
    for index in range(count):
        image, mask = _picture(index, hw, form.get("grey", False))
        _save(folder / "images" / f"{index}{suffix}", image)
        _save(folder / "masks" / f"{index}{form.get('mask', suffix)}", mask)


def _picture(index: int, hw: tuple[int, int], grey: bool = False) -> tuple[Any, Any]:
    """Bright discs on a dark ground: BGR or grey image, and its mask of 0 and 255."""
    rng = np.random.default_rng(index)
    y, x = np.mgrid[: hw[0], : hw[1]]
    inside = np.zeros(hw, bool)
    for _ in range(3):
        cy, cx = rng.integers(0, hw[0]), rng.integers(0, hw[1])
        inside |= np.hypot(y - cy, x - cx) < min(hw) / 6
    image = (np.where(inside, 190, 60) + rng.integers(0, 20, hw)).astype(np.uint8)
    mask = inside.astype(np.uint8) * 255
    if grey:
        return image, mask
    return np.stack([image, image // 2, image - 20], -1), mask


def _save(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array)
