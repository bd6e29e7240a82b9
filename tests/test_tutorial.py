"""docs/tutorial.md, command by command as it is printed, on small images and settings."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cellseg.cli import app
from tests.data.made import save, scene

pytest.importorskip("keras", reason="needs the [train] extra")
pytest.importorskip("onnx", reason="needs the [export] extra")

from cellseg.train.recipes.recipe import load_recipe

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
SMALL = {
    "base_filters = 16": "base_filters = 4",
    "levels = 4": "levels = 2\nhead_filters = 4",
    "crop_px = 192": "crop_px = 48",
    "batch = 8": "batch = 4",
    "steps_per_epoch = 200": "steps_per_epoch = 12",
    "epochs = 30": "epochs = 2",
}


def blocks(language: str) -> list[str]:
    text = TUTORIAL.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.strip().splitlines()]
    return [shlex.split(line) for line in lines]


def test_the_tutorial_takes_fewer_than_ten_commands() -> None:
    assert len(commands()) < 10
    assert all(words[0] == "cellseg-cli" for words in commands())


def test_the_recipe_of_several_classes_is_one(tmp_path: Path) -> None:
    path = tmp_path / "cells.toml"
    path.write_text("\n".join(blocks("toml")), encoding="utf-8")
    recipe = load_recipe(path)
    assert [item.name for item in recipe.class_list] == ["background", "cytoplasm", "nucleus"]


@pytest.mark.slow
def test_the_tutorial_works_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(12):
        image, labels = scene(index, 96, 6)
        save(tmp_path / "my-images" / "images" / f"{index}.png", image)
        save(tmp_path / "my-images" / "masks" / f"{index}.png", (labels > 0).astype(np.uint8) * 255)
    save(tmp_path / "slide.tif", scene(99, 200, 14)[0])
    recipe = blocks("toml")[0]
    for printed, small in SMALL.items():
        assert printed in recipe
        recipe = recipe.replace(printed, small, 1)
    (tmp_path / "cells.toml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    for words in commands():
        # A network of two epochs loses more by eight bits than a trained one may.
        extra = ["--min-quality", "0"] if words[1] == "export" else []
        extra += ["--mpp", "0.5"] if words[1] == "infer" else []
        ran = CliRunner().invoke(app, [*words[1:], *extra])
        assert ran.exit_code == 0, f"{shlex.join(words)}\n{ran.output}"
    run = json.loads((tmp_path / "results" / "slide" / "run.json").read_text())
    assert list(run["classes"]) == ["background", "cell"]
    assert (tmp_path / "data" / "report" / "stats.png").is_file()
    assert (tmp_path / "data" / "preview.jpg").is_file()
