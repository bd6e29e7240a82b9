"""Class activation maps: a picture an image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the [train] extra")

import keras

from cellseg.train.networks.model import build_network
from cellseg.train.networks.predict import KerasPredictor
from cellseg.train.scores.cam import write_cams
from cellseg.train.sections import Recipe

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX takes no gradient in the middle of a network"
)


def test_images_of_one_name_in_two_sources_keep_their_pictures(tmp_path: Path) -> None:
    for source in ("a", "b"):
        for part, array in (("images", np.zeros((16, 16, 3))), ("labels", np.eye(16))):
            folder = tmp_path / source / "test" / part
            folder.mkdir(parents=True)
            for stem in ("1", "1.zoom"):
                cv2.imwrite(str(folder / f"{stem}.png"), array.astype(np.uint8))
    recipe = Recipe.model_validate(
        {
            "name": "two",
            "model": {"base_filters": 4, "levels": 2},
            "sources": [{"name": name, "path": name} for name in ("a", "b")],
        }
    )
    predictor = KerasPredictor(build_network(recipe), recipe)
    write_cams(recipe, tmp_path, "test", predictor, tmp_path / "cam")
    found = sorted(p.relative_to(tmp_path / "cam").as_posix() for p in tmp_path.glob("cam/*/*"))
    assert found == ["a/1.png", "a/1.zoom.png", "b/1.png", "b/1.zoom.png"]
