"""Whole images are scaled for training by the very bytes that inference will see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.runtime.bundles.manifest import ModelCard  # noqa: E402
from cellseg.runtime.slides.readers import open_slide  # noqa: E402
from cellseg.runtime.view.normalize import Normalize, measure_slide  # noqa: E402
from cellseg.runtime.view.working import WorkingView  # noqa: E402
from cellseg.train.images.class_crops import ClassCrops  # noqa: E402
from cellseg.train.images.stock import Labelled  # noqa: E402
from cellseg.train.loop.fit import write_model_facts  # noqa: E402
from cellseg.train.sections import Recipe  # noqa: E402
from cellseg.train.tasks.class_task import ClassTask  # noqa: E402

SIZES = [(90, 130), (20, 31), (200, 64), (32, 64)]


def recipe(fit: str = "whole", kind: str = "slide-percentile", **bundle: float) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "discs",
            "sources": [{"name": "discs", "path": "."}],
            "input": {"size_px": [64, 32], "fit": fit},
            "normalize": {"kind": kind},
            "target": {"kind": "classes"},
            "bundle": bundle,
        }
    )


def write_pairs(folder: Path, sizes: list[tuple[int, int]]) -> None:
    """Write images that show nothing but their own masks."""
    for index, (height, width) in enumerate(sizes):
        y, x = np.mgrid[:height, :width]
        inside = np.hypot((y - height / 2) / height, (x - width / 3) / width) < 0.25
        for part, low, high in (("images", 40, 220), ("masks", 0, 255)):
            (folder / part).mkdir(exist_ok=True)
            picture = np.where(inside, high, low).astype(np.uint8)
            cv2.imwrite(str(folder / part / f"{index}.png"), picture)


def first(folder: Path, hw: tuple[int, int], asked: Recipe) -> Labelled:
    """Return the only training image, as training sees it."""
    write_pairs(folder, [hw, hw])
    return ClassTask(asked, folder).stock.get(0, "whole")


@pytest.mark.parametrize("hw", SIZES)
@pytest.mark.parametrize("kind", ["none", "slide-percentile"])
def test_training_sees_the_bytes_that_inference_sees(
    tmp_path: Path, hw: tuple[int, int], kind: str
) -> None:
    item = first(tmp_path, hw, recipe(kind=kind))
    slide = open_slide(item.pair.image)
    spec: Any = recipe(kind=kind).normalize
    seen = measure_slide(slide, Normalize(spec.kind, spec.low, spec.high))
    view = WorkingView(slide, None, fit_hw=(32, 64)).in_range(seen)
    assert np.array_equal(item.image, view.read(0, 0, *view.hw))
    slide.close()


@pytest.mark.parametrize("hw", SIZES)
def test_a_mask_stays_on_its_image(tmp_path: Path, hw: tuple[int, int]) -> None:
    item = first(tmp_path, hw, recipe(kind="none"))
    assert item.classes.shape == item.image.shape[:2]
    apart = (item.image[..., 0] > 130) != (item.classes > 0)
    edge = cv2.morphologyEx(item.classes, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    assert not apart[~edge].any()
    assert apart.mean() < 0.02


@pytest.mark.parametrize(
    ("fit", "fit_px", "mpp"),
    [("whole", (32, 64), None), ("both", (32, 64), 0.5), ("native", None, 0.5)],
)
def test_a_run_says_what_its_bundle_will_do(
    tmp_path: Path, fit: str, fit_px: tuple[int, int] | None, mpp: float | None
) -> None:
    write_pairs(tmp_path, [(40, 70), (40, 70)])
    task = ClassTask(recipe(fit), tmp_path)
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(image))
    write_model_facts(task, model, tmp_path)
    card = ModelCard.model_validate(json.loads((tmp_path / "model.json").read_text()))
    assert (card.input.fit, card.input.fit_px, card.mpp) == (fit, fit_px, mpp)


def test_a_recipe_may_say_what_whole_images_measure_after_scaling() -> None:
    assert recipe(mpp=4.0).mpp == 4.0
    assert recipe("native", mpp=0.0).mpp is None


def test_pasted_objects_are_more_objects_and_the_same_again(tmp_path: Path) -> None:
    write_pairs(tmp_path, [(64, 64)] * 4)

    def crops(chance: float) -> list[Any]:
        asked = Recipe.model_validate(
            recipe("native").model_dump() | {"augment": {"paste_p": chance}}
        )
        stream = ClassCrops(ClassTask(asked, tmp_path).stock, asked)
        return [stream.crop(step, 0)[1] > 0 for step in range(30)]

    plain, pasted = crops(0), crops(1)
    assert all((more >= few).all() for few, more in zip(plain, pasted, strict=True))
    assert np.sum(pasted) > np.sum(plain)
    assert np.array_equal(pasted, crops(1))
