"""Which images a source gives to training on numbered cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.train.images.cell_crops import source_images
from cellseg.train.sections import SourceRecipe
from tests.data.made import save, scene

if TYPE_CHECKING:
    from pathlib import Path


def test_images_that_are_left_out_are_left_out(tmp_path: Path) -> None:
    for stem in "abc":
        save(tmp_path / "s" / "train" / "images" / f"{stem}.png", scene()[0])
    source = SourceRecipe(name="s", path="s", without=("a", "c"))
    assert [path.stem for path in source_images(source, tmp_path, "train")] == ["b"]
