"""A recipe: all sections, and the rules that hold between them."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from cellseg.train.sections.augment import AugmentRecipe
from cellseg.train.sections.base import Section
from cellseg.train.sections.data import (
    ClassRecipe,
    InputRecipe,
    MaskRecipe,
    NormalizeRecipe,
    SourceRecipe,
)
from cellseg.train.sections.learn import FitRecipe, LossRecipe, TargetRecipe, WatchRecipe
from cellseg.train.sections.model import DEFAULT_FAMILY, FAMILY_MODELS, ModelRecipe
from cellseg.train.sections.use import BundleRecipe, InferRecipe

__all__ = ["Recipe"]

_USUAL_MPP = 0.5


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
        if self.target.kind == "classes" and any(s.draw != "evenly" for s in self.sources):
            raise ValueError(
                'sources.draw = "by-objects" needs numbered objects: target.kind = "instances"'
            )
        if self.target.kind == "classes" and self.loss.name == "interior_border":
            raise ValueError(
                'loss.name = "interior_border" needs numbered objects: choose another loss, or '
                'target.kind = "instances"'
            )
        if self.target.kind == "classes" and any(
            side % self.model.stride for side in self.input.size_px
        ):
            raise ValueError(
                f"input.size_px must be multiples of the model's stride, {self.model.stride} px"
            )
        if self.target.kind == "instances" and any(source.path is None for source in self.sources):
            raise ValueError(
                'sources need a path, or target.kind = "classes": labels lie beside images there'
            )
        if self.target.kind == "instances" and self.fit.crop_px % self.model.stride:
            raise ValueError(
                f"fit.crop_px must be a multiple of the model's stride, {self.model.stride} px"
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
