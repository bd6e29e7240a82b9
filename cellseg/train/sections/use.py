"""``[infer]``, ``[bundle]``: what becomes of the trained network."""

from __future__ import annotations

from pydantic import Field

from cellseg.train.sections.base import Color, Section

__all__ = ["BundleRecipe", "InferRecipe"]


class InferRecipe(Section):
    """What ``cellseg-cli infer RECIPE`` reads and writes; folders relative to --data."""

    images: str | None = Field(None, description="folder of images to segment as a whole")
    output: str = Field("mini_test_output", description="folder of its masks")
    merged: str | None = Field(None, description="folder of pictures with the mask painted on")
    tiled_images: str | None = Field(None, description="folder of images to segment in tiles")
    tiled_output: str = Field("tiled_mini_test_output", description="folder of its masks")
    tiled_merged: str | None = Field(None, description="folder of pictures of those")
    tile_px: int | None = Field(None, ge=16, description="side of a tile; by default the width, px")
    overlap_px: int = Field(
        64, ge=0, description="halo: margin of a tile that is read and not kept, px"
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="foreground from this probability, 0..1")
    colorize: bool = Field(False, description="masks in the classes' colours instead of 0 and 255")


class BundleRecipe(Section):
    """What the bundle says of the model."""

    version: str = Field("1.0", description="version of the model")
    description: str = Field("", description="one sentence")
    license: str = Field("Apache-2.0", description="licence of the weights")
    mpp: float | None = Field(
        None,
        ge=0,
        description="pixel size the network sees, µm, after scaling; 0: any; by default 0.5, or "
        "any with input.fit whole, which then takes no slides",
    )
    class_name: str = Field("nucleus", description="name of the foreground class")
    class_color: Color = Field((230, 60, 60), description="its RGB colour, 0..255")
    threshold: float = Field(0.5, gt=0, lt=1, description="foreground probability")
    seed_threshold: float = Field(0.3, gt=0, lt=1, description="interior probability of a seed")
    seed_depth: float = Field(
        0.17, gt=0, le=1, description="fall of the interior that parts two seeds; 1: none"
    )
    seed_blur_px: float = Field(2.0, ge=0, description="smoothing of the interior, sigma, px")
    min_seed_px: int = Field(12, ge=0, description="smallest seed, px")
    min_area_px: int = Field(40, ge=0, description="smallest nucleus kept, px")
    sure_probability: float = Field(
        0.8, gt=0, le=1, description="probability of foreground from which a pixel is sure"
    )
    min_sure: float = Field(
        0.0, ge=0, le=1, description="least share of a nucleus's pixels that are sure"
    )
    neck_depth: float = Field(
        0.0,
        ge=0,
        le=1,
        description="fall of the distance to the edge, of its maximum, that parts a nucleus where "
        "two round parts of it meet; 0: none",
    )
    least_diameter_px: float = Field(
        0.0, ge=0, description="diameter below which nuclei run together, as measured; 0: not known"
    )
