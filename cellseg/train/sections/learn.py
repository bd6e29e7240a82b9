"""``[target]``, ``[loss]``, ``[fit]``, ``[watch]``: what is learned, how, and who looks on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cellseg.train.sections.base import Section

__all__ = ["FitRecipe", "LossRecipe", "TargetRecipe", "WatchRecipe"]


class TargetRecipe(Section):
    """What the network learns to say of each pixel."""

    kind: Literal["instances", "classes"] = Field(
        "instances",
        description="instances: interior and border of numbered cells (labels/); classes: the "
        "class of each pixel (masks/)",
    )
    border_px: int = Field(
        2, ge=1, description="thickness of the border class inside a nucleus, px"
    )
    gap_px: int = Field(2, ge=1, description="background this near to two nuclei is border too, px")
    contact_weight: float = Field(
        3.0, gt=0, description="weight in the loss of pixels within gap_px of two nuclei"
    )
    border_share: float = Field(
        0.0,
        ge=0,
        le=0.25,
        description="the border grows with the nucleus: this share of its diameter, 1 px to "
        "border_px towards the background, border_px to 8 px towards another nucleus; 0: border_px",
    )
    distance: bool = Field(False, description="add a channel: distance to the border, 0..1")

    @property
    def widths(self) -> tuple[int, int, float]:
        """What `cellseg.train.images.targets.interior_border` asks for beside labels."""
        return self.border_px, self.gap_px, self.border_share


class LossRecipe(Section):
    """What is minimized, with ``target.kind = "classes"``."""

    name: str = Field("bce_dice", description="loss, by name; docs/recipes.md lists them")
    options: dict[str, float | bool] = Field(
        {}, description="its own settings, such as gamma, alpha, smooth or skip_background"
    )
    class_weights: Literal["none", "inverse", "sqrt-inverse"] | tuple[float, ...] = Field(
        "none",
        description="weight of each class: none, from pixel counts of the training masks (total / "
        "own, or its root), or one number a class",
    )


class FitRecipe(Section):
    """The optimization."""

    seed: int = Field(0, ge=0, lt=2**32, description="seed of weights, order and augmentation")
    crop_px: int = Field(192, ge=16, description="side of a training crop (instances), px")
    batch: int = Field(8, ge=1, description="crops a step")
    steps_per_epoch: int = Field(
        100, ge=0, description="steps between two looks at validation; 0: each image once"
    )
    valid_images: int = Field(
        0, ge=0, description="validation images looked at each epoch; 0: all of them"
    )
    epochs: int = Field(40, ge=1, description="epochs of the learning-rate schedule")
    optimizer: Literal["adam", "adamw"] = Field("adamw", description="optimizer")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the schedule")
    schedule: Literal["cosine", "plateau", "steps", "constant"] = Field(
        "cosine",
        description="cosine: warm-up, then half a cosine; plateau: reduced where validation does "
        "not get better; steps: as learning_rate_steps; constant",
    )
    learning_rate_steps: tuple[tuple[int, float], ...] = Field(
        (), description="pairs of epoch, from 1, and the rate from there on"
    )
    reduce_factor: float = Field(0.1, gt=0, lt=1, description="plateau: factor of a reduction")
    reduce_patience: int = Field(5, ge=1, description="plateau: epochs before a reduction")
    min_learning_rate: float = Field(0.0, ge=0, description="plateau: the least rate")
    warmup_steps: int = Field(100, ge=0, description="linear warm-up, steps")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW weight decay")
    clipnorm: float = Field(1.0, ge=0, description="gradient clipping, global norm; 0: none")
    clipvalue: float = Field(
        0.0, ge=0, description="gradient clipping, each value, instead of clipnorm; 0: none"
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="arithmetic of the training step; weights stay float32"
    )
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the weights' running mean; 0: none")
    init: str | None = Field(
        None,
        description="what to start from: a bundle (by name or path) or a Keras file; its layers of "
        "the same name and shape are taken",
    )
    keep: Literal["best", "last"] = Field(
        "best",
        description="weights that best.keras has: those of the least validation loss, or the last "
        "ones, where validation is too small to choose by",
    )
    patience: int = Field(
        12, ge=0, description="epochs without a better validation before a stop; 0: never"
    )
    workers: int = Field(1, ge=1, le=64, description="threads that make crops")
    prefetch: int = Field(6, ge=1, description="steps made ahead")
    cache_mb: int = Field(4096, ge=0, description="decoded images kept in memory (classes), MB")


class WatchRecipe(Section):
    """Pictures of how the network changes, made at the end of every epoch."""

    images: str | None = Field(
        None, description="folder of images, relative to --data; by default the validation images"
    )
    count: int = Field(4, ge=0, le=64, description="images shown")
    plain: bool = Field(True, description="the image as training sees it, in epochs-plain.png")
    tiled: bool = Field(False, description="tiles at the image's own scale, in epochs-tiled.png")
    tensorboard: bool = Field(
        False, description="TensorBoard events in tensorboard/ (the tensorboard extra)"
    )
