"""Every key of the seeds' configuration files, and what became of it.

A key either becomes a key of our recipe, or is understood and has no effect, and the table says
why. A few are slips that the seeds themselves print; they are read as they were meant.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from cellseg.errors import RecipeError

__all__ = ["KEYS", "SLIPS", "SeedKey", "require_known", "seed_keys"]


@dataclass(frozen=True)
class SeedKey:
    """One key of a section."""

    section: str
    """Section, without brackets."""

    key: str
    """Key, in lower case."""

    becomes: str = ""
    """Key of our recipe; empty if it has no effect."""

    why: str = ""
    """Why it has no effect, or how it is translated."""


SLIPS = {
    ("deformation", "alpah"): ("deformation", "alpha"),
    ("train", "epoch_changeinfer"): ("train", "epoch_change_tiledinfer"),
    ("train", "epoch_changeinfer_dir"): ("train", "epoch_change_tiledinfer_dir"),
}
"""Keys that the seeds misspell, and what they mean."""

_NO_NEED = "masks and images are read by one rule"
_ALWAYS_BINARY = "the mask that is written is always thresholded, without loss"
_PREVIEW = "cellseg-cli data preview shows what training sees"

_TABLE: dict[str, dict[str, tuple[str, str]]] = {
    "model": {
        "model": ("model.family", "the class becomes its family"),
        "generator": ("augment.enabled", "online augmentation, new changes for every crop"),
        "image_width": ("input.size_px", "need not be square, only a multiple of the stride"),
        "image_height": ("input.size_px", ""),
        "image_channels": ("", "every image is read as RGB, grey ones with three equal channels"),
        "num_classes": ("classes", "1: background and foreground"),
        "input_normalize": ("model.input_range", "True: 0..1, False: 0..255"),
        "normalization": ("model.normalization", "True: batch"),
        "base_filters": ("model.base_filters", ""),
        "base_kernels": ("model.base_kernel", "a square's side"),
        "num_layers": ("model.levels", ""),
        "dropout_rate": ("model.dropout_rate", ""),
        "dropout_seed_fixing": ("", "fit.seed fixes every random number"),
        "dilation": ("model.dilation", "a square's side"),
        "activation": ("model.activation", ""),
        "final_activation": ("", "sigmoid for one class, softmax for more"),
        "optimizer": ("fit.optimizer", "Adam or AdamW"),
        "learning_rate": ("fit.learning_rate", ""),
        "clipvalue": ("fit.clipvalue", ""),
        "loss": ("loss.name", ""),
        "metrics": ("", "every metric is computed, true per image and class"),
        "evaluation": ("", "evaluate scores the test images; --split valid the others"),
        "show_summary": ("", "cellseg-cli inspect FILE says what the network is and costs"),
        "filter_num_begin": ("model.base_filters", ""),
        "depth": ("model.levels", ""),
        "stack_num_down": ("model.blocks", ""),
        "stack_num_up": ("", "the decoder has as many blocks as the encoder"),
        "patch_size": ("model.patch_px", ""),
        "num_heads": ("model.heads", ""),
        "window_size": ("model.windows", ""),
        "num_mlp": ("model.mlp_filters", ""),
        "shift_window": ("model.shift", ""),
        "efficientnet": ("model.backbone", ""),
        "filter_num": ("", "only TransUNet reads it, which has no family here"),
        "embed_dim": ("", "only TransUNet reads it"),
        "num_transformer": ("", "only TransUNet reads it"),
        "mlp_activation": ("", "only TransUNet reads it"),
        "batch_norm": ("", "only TransUNet reads it"),
        "pool": ("", "only TransUNet reads it"),
        "unpool": ("", "only TransUNet reads it"),
        "backbone": ("", "only TransUNet reads it"),
        "weights": ("", "only TransUNet reads it"),
        "freeze_backbone": ("", "only TransUNet reads it"),
        "freeze_batch_norm": ("", "only TransUNet reads it"),
        "filters": ("", "only SharpUNet reads it, which has no family here"),
        "max_filter": ("", "only SharpUNet reads it"),
        "base_ksize": ("", "only SharpUNet reads it"),
    },
    "dataset": {
        "datasetclass": (
            "input.color",
            "RGB2GrayscaleImageMaskDataset: gray; the others: " + _NO_NEED,
        ),
        "class_name": ("input.color", "as datasetclass"),
        "resize_interpolation": (
            "",
            "images are reduced by area and enlarged linearly, masks take the nearest pixel",
        ),
        "color_order": ("input.color", "bgr is put into the network's first layer"),
        "image_normalize": ("model.input_range", "True: 0..1"),
        "rgb_mask": ("classes", "with [mask] rgb_map"),
        "mask_format": ("", _NO_NEED),
        "image_format": ("", _NO_NEED),
        "debug": ("", _PREVIEW),
    },
    "train": {
        "epochs": ("fit.epochs", ""),
        "batch_size": ("fit.batch", ""),
        "steps_per_epoch": ("fit.steps_per_epoch", "counts with generator = True, as in the seeds"),
        "validation_steps": ("fit.valid_images", "times the batch, with generator = True"),
        "patience": ("fit.patience", "0 or less: never"),
        "metrics": ("", "every metric is computed, true per image and class"),
        "model_dir": ("run", "the run's folder"),
        "eval_dir": ("", "metrics.csv and its picture lie in the run's folder"),
        "image_datapath": ("sources.train.images", ""),
        "mask_datapath": ("sources.train.masks", ""),
        "category": ("sources.train", "a folder below both paths"),
        "create_backup": ("", "no folder is ever deleted or moved"),
        "dataset_splitter": ("sources.valid_part", "True: a fifth of the training images"),
        "learning_rate_reducer": ("fit.schedule", "True: plateau"),
        "reducer_factor": ("fit.reduce_factor", ""),
        "reducer_patience": ("fit.reduce_patience", "by default half of patience"),
        "save_weights_only": ("", "best.keras holds the whole network, and code never"),
        "best_model_file": ("", "it is called best.keras"),
        "seedreset_callback": ("", "fit.seed fixes every random number"),
        "epoch_change_infer": ("watch.plain", ""),
        "epoch_change_infer_dir": ("", "one growing sheet: epochs-plain.png in the run's folder"),
        "epoch_change_tiledinfer": ("watch.tiled", ""),
        "epoch_change_tiledinfer_dir": ("", "one growing sheet: epochs-tiled.png"),
        "num_infer_images": ("watch.count", ""),
        "show_history": ("", "metrics.png shows it"),
    },
    "eval": {
        "image_datapath": ("sources.valid.images", "the test images where [test] is missing"),
        "mask_datapath": ("sources.valid.masks", ""),
        "category": ("sources.valid", "a folder below both paths"),
        "batch_size": ("", "images are scored one by one, at their own size"),
    },
    "test": {
        "image_datapath": ("sources.test.images", ""),
        "mask_datapath": ("sources.test.masks", ""),
        "category": ("sources.test", "a folder below both paths"),
        "batch_size": ("", "images are scored one by one, at their own size"),
    },
    "infer": {
        "images_dir": ("infer.images", ""),
        "output_dir": ("infer.output", ""),
        "merged_dir": ("infer.merged", ""),
        "blur": ("", _ALWAYS_BINARY),
        "ksize": ("", _ALWAYS_BINARY),
        "threshold": ("infer.threshold", "grey value / 255"),
        "algorithm": ("", "the threshold counts"),
        "mask_colorize": ("infer.colorize", ""),
        "colorized_dir": ("", "coloured masks are written instead of black and white ones"),
        "colorized_output_format": ("", "PNG of RGB"),
        "show_inferred_mask": ("", "masks are files"),
    },
    "tiledinfer": {
        "overlapping": ("infer.overlap_px", "halo that is read and not kept"),
        "split_size": ("infer.tile_px", ""),
        "images_dir": ("infer.tiled_images", ""),
        "output_dir": ("infer.tiled_output", ""),
        "merged_dir": ("infer.tiled_merged", ""),
        "bitwise_blending": ("", "tiles are cropped to what they know: there is nothing to blend"),
        "binarize": ("", _ALWAYS_BINARY),
        "threshold": ("infer.threshold", "where [infer] has none"),
        "algorithm": ("", "the threshold counts"),
        "background": ("", "border tiles are shifted inwards: no image is padded"),
        "debug": ("", "tiles are not written"),
        "blur": ("", _ALWAYS_BINARY),
        "ksize": ("", _ALWAYS_BINARY),
    },
    "segmentation": {
        "colorize": ("infer.colorize", ""),
        "black": ("classes.color", "colour of the background"),
        "white": ("classes.color", "colour of the foreground"),
        "blursize": ("", "the seeds read it and never use it"),
    },
    "image": {
        "color_converter": ("input.color", "cv2.COLOR_BGR2HSV, LAB, XYZ, YCrCb, YUV, GRAY"),
        "gamma": ("input.gamma", "0 is off"),
        "sharpening": ("input.sharpen", ""),
    },
    "mask": {
        "blur": ("mask.blur_px", ""),
        "blur_size": ("mask.blur_px", "a square's side"),
        "binarize": ("mask.threshold", "False: by Otsu's value, not: whatever is not 0"),
        "threshold": ("mask.threshold", "counts with binarize = True"),
        "algorithm": ("mask.threshold", "cv2.THRESH_OTSU: found from the masks"),
        "rgb_map": ("classes.mask_colors", "one class a colour, the nearest one counts"),
        "mask_colors": ("", "classes come from rgb_map"),
        "grayscaling": ("", "masks of colour are made grey as OpenCV does"),
        "color_order": ("", _NO_NEED),
        "mask_channels": ("", _NO_NEED),
        "normalized_threshold": ("", "masks are not normalized"),
        "colorize": ("infer.colorize", ""),
        "mask_file_format": ("", _NO_NEED),
    },
    "generator": {
        "debug": ("", _PREVIEW),
        "verbose": ("", _PREVIEW),
        "augmentation": ("augment.enabled", ""),
        "generated_images_dir": ("", _PREVIEW),
        "generated_masks_dir": ("", _PREVIEW),
    },
    "augmentor": {
        "hflip": ("augment.hflip_p", ""),
        "vflip": ("augment.vflip_p", ""),
        "rotation": ("augment.angle_p", ""),
        "angles": ("augment.angles_deg", ""),
        "shrinks": ("augment.shrink", "the range between the smallest and the largest"),
        "shears": ("augment.shear", "the largest, either way"),
        "deformation": ("augment.elastic_p", ""),
        "distortion": ("augment.ripple_p", ""),
        "sharpening": ("augment.sharpen_p", "the image alone, not the mask"),
        "brightening": ("augment.brightness_p", "the image alone, not the mask"),
        "barrdistortion": ("augment.barrel_p", ""),
        "pincdistortion": ("augment.pincushion_p", ""),
        "transpose": ("augment.angle_p", "as rotation"),
    },
    "deformation": {
        "alpha": ("augment.elastic_px", "as the displacement that the seeds reach with it"),
        "sigmoid": ("", "the seeds never use it; sigmoids counts"),
        "sigmoids": ("augment.elastic_sigma_px", "the first"),
    },
    "distortion": {
        "gaussian_filter_rsigma": ("augment.ripple_sigma_px", ""),
        "gaussian_filter_sigma": ("", "the seeds compute with it and never use the result"),
        "distortions": ("augment.ripple", "the largest"),
    },
    "barrdistortion": {
        "radius": ("augment.lens_radius", ""),
        "amount": ("augment.lens_amount", ""),
        "centers": ("augment.lens_centers", ""),
    },
    "pincdistortion": {
        "radius": ("augment.lens_radius", "where [barrdistortion] has none"),
        "amount": ("augment.lens_amount", "where [barrdistortion] has none; its sign is known"),
        "centers": ("augment.lens_centers", "where [barrdistortion] has none"),
    },
    "sharpening": {"k": ("augment.sharpen", "")},
    "brightening": {
        "alpha": ("augment.brightness_alpha", ""),
        "beta": ("augment.brightness_beta", ""),
    },
    "inspect": {
        "model_graph": ("", "cellseg-cli inspect FILE says what the network is and costs"),
        "summary": ("", "cellseg-cli inspect FILE says what the network is and costs"),
    },
}

KEYS: dict[tuple[str, str], SeedKey] = {
    (section, key): SeedKey(section, key, *row)
    for section, rows in _TABLE.items()
    for key, row in rows.items()
}
"""Every known key by section and name."""


def seed_keys() -> list[SeedKey]:
    """All keys, in the order of the documentation."""
    return list(KEYS.values())


def require_known(section: str, key: str, value: Any, where: str) -> None:
    """Refuse a key that no seed has.

    Raises
    ------
    RecipeError
        It names the nearest key of the section, or the section that the key belongs to.
    """
    if (section, key) in KEYS:
        return
    if section not in _TABLE:
        near = difflib.get_close_matches(section, _TABLE, n=1, cutoff=0.4)
        hint = f"did you mean [{near[0]}]?" if near else f"sections: {', '.join(_TABLE)}."
        raise RecipeError(f"{where}: unknown section [{section}].", hint=hint)
    near = difflib.get_close_matches(key, _TABLE[section], n=1, cutoff=0.5)
    elsewhere = [other for other, rows in _TABLE.items() if key in rows]
    if elsewhere:
        hint = f"'{key}' belongs to [{elsewhere[0]}]."
    elif near:
        hint = f"did you mean '{near[0]}'?"
    else:
        hint = f"known keys of [{section}]: {', '.join(_TABLE[section])}."
    raise RecipeError(f"{where}: unknown key '{key}'. Received: {key}={value!r}.", hint=hint)
