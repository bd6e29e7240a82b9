"""The sections of a training recipe: every key with its type, bounds, default, unit and meaning.

Read without Keras, so that recipes are checked, converted and documented quickly. The section
``[model]`` has the keys of its family (`cellseg.train.families.params`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from cellseg.train.families import FAMILIES
from cellseg.train.families.params import FamilyParams  # noqa: TC001 (pydantic reads it)

Byte = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Byte, Byte, Byte]
Chance = Annotated[float, Field(ge=0, le=1)]
DEFAULT_FAMILY = "stem-unet"
_USUAL_MPP = 0.5


class Section(BaseModel):
    """What all sections share: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _family_model(name: str, params: type[FamilyParams]) -> type[FamilyParams]:
    title = "".join(part.capitalize() for part in name.split("-")) + "Model"
    tag: Any = (Literal[name], Field(name, description="model family"))
    return create_model(title, __base__=params, __doc__=params.__doc__, family=tag)


FAMILY_MODELS = {name: _family_model(name, row.params) for name, row in FAMILIES.items()}

if TYPE_CHECKING:
    ModelRecipe = FamilyParams
else:
    ModelRecipe = Annotated[
        Union[tuple(FAMILY_MODELS.values())],  # noqa: UP007 (a computed union)
        Field(discriminator="family"),
    ]


class FolderPair(Section):
    """Images and masks of one split, paired by file name without suffix."""

    images: str = Field(description="folder of images, relative to --data")
    masks: str = Field(description="folder of masks, relative to --data")


class SourceRecipe(Section):
    """Where images come from: ``path`` with its splits, or the folders of each split by name."""

    name: str = Field(description="name in reports")
    path: str | None = Field(
        None,
        description="folder, relative to --data, of train|valid|test/images and /masks or /labels; "
        "or of images/ and masks/ alone, which are then split",
    )
    train: FolderPair | None = Field(None, description="training folders, instead of path")
    valid: FolderPair | None = Field(None, description="validation folders, instead of path")
    test: FolderPair | None = Field(None, description="test folders, instead of path")
    valid_part: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="part of the training images to validate on, where no folder is named, 0..1",
    )
    test_part: float = Field(
        0.0, ge=0, lt=1, description="part of them to test on, where no folder is named, 0..1"
    )
    weight: float = Field(1.0, gt=0, description="share of the training crops, relative")
    table: str | None = Field(None, description="CSV beside the splits with a `stem` column")
    column: str | None = Field(None, description="column of that table to select by")
    values: tuple[str, ...] = Field((), description="values of that column to take")
    without: tuple[str, ...] = Field((), description="file names, without suffix, to leave out")
    background: bool = Field(
        False,
        description="its training images show none of the classes: no masks, no other split "
        "(target.kind classes)",
    )

    @model_validator(mode="after")
    def _has_a_place(self) -> SourceRecipe:
        if (self.path is None) == (self.train is None):
            raise ValueError(
                "a source has either a path or a [sources.train] with images and masks"
            )
        return self


class ClassRecipe(Section):
    """One class of a mask; the first is background."""

    name: str = Field(min_length=1, description="name in reports and in the bundle")
    color: Color = Field(description="RGB colour in pictures and in the bundle, 0..255")
    values: tuple[Byte, ...] = Field(
        (), description="mask values that mean it; by default its place in the list"
    )
    mask_colors: tuple[Color, ...] = Field(
        (), description="RGB colours that mean it, in masks of colours; the nearest one counts"
    )
    optional: bool = Field(
        False,
        description="may be missing from the training masks: its channel is there, and learns to "
        "stay empty",
    )


class InputRecipe(Section):
    """What the network sees: one preparation for training, evaluation and inference.

    Gamma, sharpening and colour are fixed layers at the front of the network, in this order, so
    that every exported file holds them.
    """

    size_px: tuple[int, int] = Field((512, 512), description="width and height of an input, px")
    fit: Literal["whole", "native", "both"] = Field(
        "whole",
        description="whole: an image is scaled, its aspect kept, until it fits the size; native: "
        "crops of that size at the image's own scale; both: half of the crops each. The bundle "
        "does the same; slides it reads by bundle.mpp, or refuses (whole without mpp)",
    )
    color: Literal["rgb", "bgr", "gray", "xyz", "ycrcb", "yuv", "hsv", "lab"] = Field(
        "rgb", description="colour space that the network works in, as OpenCV gives 8-bit images"
    )
    gamma: float = Field(
        1.0, gt=0, le=10, description="grey values v become 255 (v / 255) ** gamma; 1: as they are"
    )
    sharpen: float = Field(
        0.0, ge=0, le=10, description="strength k of a 3x3 sharpening: centre 1 + 8k, rest -k"
    )


class MaskRecipe(Section):
    """How a grey mask becomes foreground and background."""

    threshold: Byte | None = Field(
        None,
        description="foreground is above this grey value, 0..255; by default Otsu's value over all "
        "training masks",
    )
    blur_px: int = Field(0, ge=0, description="side of a Gaussian blur before that, px; 0: none")


class NormalizeRecipe(Section):
    """How intensities are brought to 0..255 before the network, as in the bundle."""

    kind: Literal["none", "slide-percentile"] = Field("slide-percentile", description="method")
    low: float = Field(0.5, ge=0, le=100, description="percentile that becomes 0")
    high: float = Field(99.8, ge=0, le=100, description="percentile that becomes 255")


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
    distance: bool = Field(False, description="add a channel: distance to the border, 0..1")


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


class AugmentRecipe(Section):
    """Random changes of a training crop, new ones each time; image and mask take the same warp.

    Each pair is a range, each ``_p`` a probability, 0..1.
    """

    enabled: bool = Field(True, description="false: crops are taken as they are")
    scale: tuple[float, float] = Field((0.7, 1.4), description="zoom, log-uniform")
    rotate: bool = Field(True, description="any angle and mirrored")
    hflip_p: Chance = Field(0.0, description="mirrored left to right")
    vflip_p: Chance = Field(0.0, description="mirrored top to bottom")
    angle_p: Chance = Field(0.0, description="turned by one of angles_deg")
    angles_deg: tuple[float, ...] = Field((90, 180, 270), description="angles, degrees")
    shrink_p: Chance = Field(0.0, description="made smaller by a factor of shrink")
    shrink: tuple[float, float] = Field((0.8, 0.8), description="factor, uniform")
    shear_p: Chance = Field(0.0, description="sheared along one axis")
    shear: float = Field(0.1, ge=0, le=1, description="largest shear, px a px, either way")
    elastic_p: Chance = Field(0.0, description="elastic deformation (Simard)")
    elastic_px: float = Field(4.0, ge=0, description="its standard displacement, px")
    elastic_sigma_px: float = Field(8.0, gt=0, description="smoothness of it, sigma, px")
    ripple_p: Chance = Field(0.0, description="distortion by the slope of a smooth random relief")
    ripple: float = Field(0.02, ge=0, le=0.5, description="largest displacement, part of the side")
    ripple_sigma_px: float = Field(40.0, gt=0, description="smoothness of the relief, sigma, px")
    grid_p: Chance = Field(0.0, description="grid distortion: the nodes of a grid are moved")
    grid_cells: int = Field(5, ge=1, le=64, description="cells of that grid along a side")
    grid: float = Field(0.3, ge=0, le=0.5, description="largest move of a node, part of a cell")
    barrel_p: Chance = Field(0.0, description="barrel distortion about each of lens_centers")
    pincushion_p: Chance = Field(0.0, description="pincushion distortion about them")
    lens_radius: float = Field(0.3, gt=0, le=2, description="its radius, part of the width")
    lens_amount: float = Field(
        0.3,
        ge=0,
        le=2,
        description="its exponent: source = centre + "
        "delta * sin(pi d / 2R) ** amount, negative for pincushion",
    )
    lens_centers: tuple[tuple[float, float], ...] = Field(
        ((0.5, 0.5),), description="centres (x, y), parts of width and height"
    )
    gamma: tuple[float, float] = Field((0.75, 1.35), description="gamma, log-uniform")
    contrast: tuple[float, float] = Field(
        (0.65, 1.1), description="width of the new range, placed at random within or around 0..1"
    )
    colour: float = Field(0.08, ge=0, description="gain per colour channel, +-")
    brightness_p: Chance = Field(0.0, description="brightened: alpha * value + beta")
    brightness_alpha: float = Field(1.2, gt=0, description="largest gain of that; 1 is the least")
    brightness_beta: float = Field(10.0, ge=0, description="largest offset of that, grey values")
    hed_p: Chance = Field(0.0, description="stains of a bright-field image made stronger or weaker")
    hed: float = Field(0.15, ge=0, le=1, description="largest change of each stain, +-, relative")
    hsv_p: Chance = Field(0.0, description="hue, saturation and value changed")
    hue_deg: float = Field(10.0, ge=0, le=180, description="largest turn of the hue, +-, degrees")
    saturation: float = Field(0.2, ge=0, le=1, description="largest change of it, +-, relative")
    value: float = Field(0.1, ge=0, le=1, description="largest change of HSV's value, +-, relative")
    lab_p: Chance = Field(0.0, description="lightness and tint shifted (CIE L*a*b*)")
    lab_light: float = Field(8.0, ge=0, le=100, description="largest shift of L* (0..100), +-")
    lab_color: float = Field(6.0, ge=0, le=127, description="largest shift of a* and b*, +-")
    sharpen_p: Chance = Field(0.0, description="sharpened")
    sharpen: float = Field(1.0, ge=0, le=10, description="its largest strength k")
    restain_p: Chance = Field(0.6, description="new stains on a bright-field crop (instances)")
    dim_p: Chance = Field(
        0.5, description="each nucleus of a dark-ground crop another brightness (instances)"
    )
    grey_p: Chance = Field(0.1, description="colour image to grey")
    invert_p: Chance = Field(0.1, description="inverted contrast")
    blur_p: Chance = Field(0.25, description="Gaussian blur")
    blur_sigma_px: tuple[float, float] = Field((0.4, 1.6), description="its sigma, px")
    noise_p: Chance = Field(0.2, description="Gaussian noise")
    noise_sigma: float = Field(0.03, ge=0, description="its largest sigma, of full range")


class FitRecipe(Section):
    """The optimization."""

    seed: int = Field(0, description="seed of weights, order and augmentation")
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
        description="Keras model to start from, as a path: its layers of the same name and shape",
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


class Recipe(Section):
    """A whole training run."""

    name: str = Field(min_length=1, description="name of the model")
    run: str | None = Field(
        None,
        description="the run's folder, relative to the recipe's file; by default runs/<name> here",
    )
    model: ModelRecipe = FAMILY_MODELS[DEFAULT_FAMILY]()
    sources: tuple[SourceRecipe, ...] = Field(min_length=1, description="where images come from")
    classes: tuple[ClassRecipe, ...] = Field(
        (),
        description="classes of the masks, background first; by default background and class_name",
    )
    input: InputRecipe = InputRecipe()
    mask: MaskRecipe = MaskRecipe()
    normalize: NormalizeRecipe = NormalizeRecipe()
    target: TargetRecipe = TargetRecipe()
    loss: LossRecipe = LossRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    fit: FitRecipe = FitRecipe()
    watch: WatchRecipe = WatchRecipe()
    infer: InferRecipe = InferRecipe()
    bundle: BundleRecipe = BundleRecipe()

    @model_validator(mode="before")
    @classmethod
    def _family_has_a_default(cls, tree: Any) -> Any:
        model = tree.get("model") if isinstance(tree, dict) else None
        if isinstance(model, dict) and "family" not in model:
            return {**tree, "model": {"family": DEFAULT_FAMILY, **model}}
        return tree

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        if len(self.classes) == 1:
            raise ValueError("classes must name background and at least one more, or none")
        weights = self.loss.class_weights
        if isinstance(weights, tuple) and len(weights) != len(self.class_list):
            raise ValueError(
                f"loss.class_weights must hold one number a class: {len(self.class_list)}"
            )
        if self.target.kind == "classes" and any(
            side % self.model.stride for side in self.input.size_px
        ):
            raise ValueError(
                f"input.size_px must be multiples of the model's stride, {self.model.stride} px"
            )
        return self

    @property
    def family(self) -> str:
        """Name of the model family."""
        return str(self.model.model_dump()["family"])

    @property
    def fit_hw(self) -> tuple[int, int] | None:
        """Height and width that whole images are scaled to fit; None: they keep their scale."""
        if self.target.kind == "instances" or self.input.fit == "native":
            return None
        width, height = self.input.size_px
        return height, width

    @property
    def mpp(self) -> float | None:
        """Microns per pixel that the network sees; None: any."""
        if self.bundle.mpp is not None:
            return self.bundle.mpp or None
        return None if self.fit_hw is not None and self.input.fit == "whole" else _USUAL_MPP

    @property
    def class_list(self) -> tuple[ClassRecipe, ...]:
        """Classes of the class map, background first."""
        if self.classes:
            return self.classes
        bundle = self.bundle
        return (
            ClassRecipe(name="background", color=(0, 0, 0)),
            ClassRecipe(name=bundle.class_name, color=bundle.class_color),
        )
