"""The training recipe: one TOML file says everything that a run depends on.

Every key has a default and its unit in the description; an unknown key is an error that names
the nearest known one. A recipe is looked up by name among the shipped ones (``nuclei``) or by path.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cellseg.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES_DIR = Path(__file__).parent / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRecipe(_Section):
    """The network."""

    family: Literal["unet"] = Field("unet", description="model family")
    base_filters: int = Field(24, ge=1, description="filters of the first level")
    levels: int = Field(4, ge=1, le=8, description="resolution levels, the bridge included")
    stem: bool = Field(True, description="stride-2 stem: the UNet works at half resolution")
    head_filters: int = Field(16, ge=1, description="filters of the stem's full-resolution head")


class SourceRecipe(_Section):
    """One folder of ``train|valid|test/{images,labels}``, or the part of it that a table names."""

    name: str = Field(description="name in reports")
    path: str = Field(description="folder, relative to --data")
    weight: float = Field(1.0, gt=0, description="share of the training crops, relative")
    table: str | None = Field(None, description="CSV beside the splits with a `stem` column")
    column: str | None = Field(None, description="column of that table to select by")
    values: tuple[str, ...] = Field((), description="values of that column to take")
    without: tuple[str, ...] = Field((), description="stems to leave out")
    background: bool = Field(
        False, description="train/images/ show nothing of any class; no masks, no other split"
    )


class NormalizeRecipe(_Section):
    """How intensities are brought to 0..255 before the network, as in the bundle."""

    kind: Literal["none", "slide-percentile"] = Field("slide-percentile", description="method")
    low: float = Field(0.5, ge=0, le=100, description="percentile that becomes 0")
    high: float = Field(99.8, ge=0, le=100, description="percentile that becomes 255")


class TargetRecipe(_Section):
    """What the network learns to say of each pixel."""

    kind: Literal["interior-border", "classes"] = Field(
        "interior-border",
        description="interior-border: one class, told apart by labels/; "
        "classes: those of bundle.classes, by masks/",
    )
    border_px: int = Field(
        2, ge=1, description="thickness of the border class inside a nucleus, px"
    )
    gap_px: int = Field(2, ge=1, description="background this near to two nuclei is border too, px")
    contact_weight: float = Field(
        3.0, gt=0, description="weight in the loss of pixels within gap_px of two nuclei"
    )
    distance: bool = Field(False, description="add a channel: distance to the border, 0..1")


class AugmentRecipe(_Section):
    """Random changes of a training crop; each pair is a range, each `_p` a probability."""

    scale: tuple[float, float] = Field((0.7, 1.4), description="zoom, log-uniform")
    rotate: bool = Field(True, description="any angle and mirrored")
    gamma: tuple[float, float] = Field((0.75, 1.35), description="gamma, log-uniform")
    contrast: tuple[float, float] = Field(
        (0.65, 1.1), description="width of the new range, placed at random within or around 0..1"
    )
    colour: float = Field(0.08, ge=0, description="gain per colour channel, +-")
    restain_p: float = Field(0.6, ge=0, le=1, description="new stains on a bright-field crop")
    dim_p: float = Field(
        0.5, ge=0, le=1, description="each nucleus of a dark-ground crop another brightness"
    )
    grey_p: float = Field(0.1, ge=0, le=1, description="colour image to grey")
    invert_p: float = Field(0.1, ge=0, le=1, description="inverted contrast")
    blur_p: float = Field(0.25, ge=0, le=1, description="Gaussian blur")
    blur_sigma_px: tuple[float, float] = Field((0.4, 1.6), description="its sigma, px")
    noise_p: float = Field(0.2, ge=0, le=1, description="Gaussian noise")
    noise_sigma: float = Field(0.03, ge=0, description="its largest sigma, of full range")


class FitRecipe(_Section):
    """The optimization."""

    seed: int = Field(0, description="seed of weights, order and augmentation")
    crop_px: int = Field(192, ge=16, description="side of a training crop, px")
    batch: int = Field(8, ge=1, description="crops a step")
    steps_per_epoch: int = Field(100, ge=1, description="steps between two looks at validation")
    epochs: int = Field(40, ge=1, description="epochs of the learning-rate schedule")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the cosine schedule")
    warmup_steps: int = Field(100, ge=0, description="linear warm-up, steps")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW weight decay")
    clipnorm: float = Field(1.0, gt=0, description="gradient clipping, global norm")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the weights' running mean")
    init: str | None = Field(None, description="Keras model to start from, as a path")
    patience: int = Field(12, ge=1, description="epochs without a better validation before a stop")


class ClassRecipe(_Section):
    """One foreground class of a model with several."""

    name: str = Field(description="its name, as in the data's classes.json")
    color: tuple[int, int, int] = Field(description="its RGB colour")


class BundleRecipe(_Section):
    """What the bundle says of the model."""

    version: str = Field("1.0", description="version of the model")
    description: str = Field("", description="one sentence")
    license: str = Field("Apache-2.0", description="licence of the weights")
    mpp: float | None = Field(0.5, description="pixel size the model expects, µm")
    class_name: str = Field("nucleus", description="name of the foreground class")
    class_color: tuple[int, int, int] = Field((230, 60, 60), description="its RGB colour")
    classes: tuple[ClassRecipe, ...] = Field(
        (), description="foreground classes in order, for target.kind classes"
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="foreground probability")
    seed_threshold: float = Field(0.3, gt=0, lt=1, description="interior probability of a seed")
    seed_depth: float = Field(
        0.17, gt=0, le=1, description="fall of the interior that parts two seeds; 1: none"
    )
    seed_blur_px: float = Field(2.0, ge=0, description="smoothing of the interior, sigma, px")
    min_seed_px: int = Field(12, ge=0, description="smallest seed, px")
    min_area_px: int = Field(16, ge=0, description="smallest nucleus kept, px")


class Recipe(_Section):
    """A whole training run."""

    name: str = Field(description="name of the model")
    model: ModelRecipe = ModelRecipe()
    sources: tuple[SourceRecipe, ...] = Field(min_length=1, description="where images come from")
    normalize: NormalizeRecipe = NormalizeRecipe()
    target: TargetRecipe = TargetRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    fit: FitRecipe = FitRecipe()
    bundle: BundleRecipe = BundleRecipe()

    @model_validator(mode="after")
    def _classes_are_named(self) -> Recipe:
        if (self.target.kind == "classes") != bool(self.bundle.classes):
            raise ValueError("target.kind is 'classes' where bundle.classes are named, only there")
        if self.target.kind == "classes" and self.target.distance:
            raise ValueError("target.distance is for target.kind 'interior-border'")
        if all(source.background for source in self.sources):
            raise ValueError("one source at least has masks")
        return self

    @property
    def class_channels(self) -> int:
        """Channels of the network that exclude each other, background included."""
        return 3 if self.target.kind == "interior-border" else 1 + len(self.bundle.classes)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes that the model tells, background first."""
        named = [item.name for item in self.bundle.classes] or [self.bundle.class_name]
        return ["background", *named]

    @property
    def class_colors(self) -> list[tuple[int, int, int]]:
        """RGB of the classes, background first."""
        colors = [item.color for item in self.bundle.classes] or [self.bundle.class_color]
        return [(0, 0, 0), *colors]


def shipped_recipes() -> list[str]:
    """Names of the recipes inside the package."""
    return sorted(path.stem for path in RECIPES_DIR.glob("*.toml"))


def load_recipe(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe.

    Parameters
    ----------
    name_or_path : str or Path
        A shipped recipe's name or a TOML file.
    overrides : dict, optional
        Dotted keys that replace values of the file: ``{"fit.epochs": 2}``.

    Raises
    ------
    RecipeError
        If the file is missing, not TOML, or a key or value is wrong.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        raise RecipeError(
            f"a recipe is a TOML file or a shipped name. Received: {name_or_path}.",
            hint=f"shipped recipes: {', '.join(shipped_recipes())}.",
        )
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}.") from error
    for dotted, value in (overrides or {}).items():
        _set(tree, dotted, value)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise _explain(path, error) from error


def _set(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value


def _explain(path: Path, error: ValidationError) -> RecipeError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the recipe"
    if first["type"] != "extra_forbidden":
        received = "" if isinstance(first["input"], dict) else f" Received: {first['input']!r}."
        return RecipeError(f"{path}: {where}: {first['msg']}.{received}")
    known = _known_keys(first["loc"][:-1])
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}."
    return RecipeError(f"{path}: unknown key '{where}'.", hint=hint)


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    section: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        section = annotation if isinstance(annotation, type) else annotation.__args__[0]
    return list(section.model_fields)


def describe_recipe(recipe: Recipe) -> str:
    """Set out every key with its value and what it means, a section a paragraph."""
    lines = [f"recipe {recipe.name}"]
    for name, section in recipe:
        parts = section if isinstance(section, tuple) else (section,)
        for part in parts:
            if isinstance(part, _Section):
                lines += ["", f"[{name}]", *_describe_section(part)]
    return "\n".join(lines)


def _describe_section(section: _Section) -> list[str]:
    fields = type(section).model_fields
    return [f"  {key} = {value!r}  ({fields[key].description})" for key, value in section]
