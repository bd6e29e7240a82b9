"""Scores of a bundle on a recipe's images are those of its label maps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.errors import DataError, ExportError
from cellseg.runtime.evaluation.instances import score_instances
from cellseg.runtime.segmenter import Segmenter
from cellseg.train.recipes.recipe import load_recipe
from cellseg.train.scores import evaluate
from cellseg.train.scores.instances import instance_scores
from cellseg.train.sections import Recipe
from tests.bundles import make_bundle
from tests.fakes import CELL_RULE, nuclei_picture

ENGINE = {"engine": "onnxruntime", "precision": "fp32"}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Two images of discs with their true labels, and a recipe that names them."""
    for index in range(2):
        image = nuclei_picture(40, 60, seed=index)
        labels = cv2.connectedComponents((image[..., 0] > 100).astype(np.uint8))[1]
        for name, array in (("images", image), ("labels", labels.astype(np.uint16))):
            folder = tmp_path / "discs" / "test" / name
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{index}.png"), array)
    path = tmp_path / "discs.toml"
    path.write_text('name = "discs"\n[[sources]]\nname = "discs"\npath = "discs"\n')
    return load_recipe(str(path))


def test_every_image_of_a_split_is_scored_by_its_label_map(recipe: Recipe, tmp_path: Path) -> None:
    head = {"kind": "softmax", "instances": CELL_RULE}
    bundle = make_bundle(tmp_path / "tiny.cellseg", head=head, threshold=0.5)
    found = list(instance_scores(recipe, tmp_path, model=bundle.path, **ENGINE))
    expected = []
    with Segmenter.load(bundle.path, **ENGINE) as segmenter:
        for index in range(2):
            folder = tmp_path / "discs" / "test"
            image = cv2.imread(str(folder / "images" / f"{index}.png"))[..., ::-1]
            truth = cv2.imread(str(folder / "labels" / f"{index}.png"), cv2.IMREAD_UNCHANGED)
            labels = segmenter(np.ascontiguousarray(image)).labels
            expected.append(score_instances(labels, truth, str(index), "discs"))
    assert found == expected


def test_images_of_16_bits_are_scored_with_all_of_them(recipe: Recipe, tmp_path: Path) -> None:
    """Of a dim image eight bits are a few greys: a good model found a fifth of its cells."""
    folder = tmp_path / "discs" / "test" / "images"
    for path in folder.iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 8 + 300)
    for item in evaluate.load_split(recipe, tmp_path, "test"):
        stored = cv2.imread(str(folder / f"{item.stem}.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
        assert item.image.dtype == np.uint16
        assert np.array_equal(item.image, stored)
    head = {"kind": "softmax", "instances": CELL_RULE}
    bundle = make_bundle(tmp_path / "tiny.cellseg", head=head, threshold=0.5)
    evaluate.evaluate_bundle(recipe, tmp_path, "test", bundle.path, tmp_path / "o", **ENGINE)
    picture = cv2.imread(str(tmp_path / "o" / "worst.jpg"))
    assert np.ptp(picture[:300, :300]) > 200  # its range, not a few greys


def test_the_worst_are_drawn_by_the_threshold_that_was_scored(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = {"kind": "softmax", "instances": CELL_RULE}
    bundle = make_bundle(tmp_path / "tiny.cellseg", head=head, threshold=0.3)
    taken = []

    def label(probabilities: np.ndarray, rule: object, threshold: float = 0.5) -> np.ndarray:
        taken.append(threshold)
        return np.zeros(probabilities.shape[:2], np.uint32)

    monkeypatch.setattr(evaluate, "instances_from_probabilities", label)
    evaluate.evaluate_bundle(recipe, tmp_path, "test", bundle.path, tmp_path / "o", **ENGINE)
    assert taken == [0.3] * 4  # two images, scored and drawn


def test_a_model_without_cells_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny.cellseg")
    with pytest.raises(ExportError, match="tells cells apart"):
        list(instance_scores(recipe, tmp_path, model=bundle.path, **ENGINE))


def test_a_split_without_images_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "discs" / "valid" / "images").mkdir(parents=True)
    bundle = make_bundle(tmp_path / "tiny.cellseg")
    with pytest.raises(DataError, match="none in valid"):
        list(instance_scores(recipe, tmp_path, split="valid", model=bundle.path, **ENGINE))
