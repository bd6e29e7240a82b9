"""The seeds' own files become recipes; slips are understood, unknown keys named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cellseg.errors import RecipeError
from cellseg.train.recipes.recipe import check_recipe, load_recipe
from cellseg.train.recipes.toml_text import recipe_text
from cellseg.train.seed.convert import convert_config
from cellseg.train.seed.ini import read_ini
from cellseg.train.seed.keys import KEYS
from tests.train.seed.printed import SKIN_CANCER

# What seed 004 prints, its slips in keys included, and a comma that became a full stop.
SKIN = SKIN_CANCER.replace("[90, 180, 270]", "[90. 180, 270,]")


def written(folder: Path, text: str) -> Path:
    path = folder / "train_eval_infer.config"
    path.write_text(text)
    return path


def test_a_seeds_file_becomes_its_network_and_settings(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, SKIN))
    model = recipe.model.model_dump()
    assert (model["family"], model["levels"], model["base_kernel"]) == ("unet", 8, 5)
    assert (model["input_range"], model["dropout_rate"]) == ("0..255", 0.05)
    assert recipe.fit.learning_rate == 4e-5
    assert (recipe.fit.clipvalue, recipe.fit.clipnorm, recipe.fit.ema) == (0.5, 0, 0)
    assert (recipe.fit.schedule, recipe.fit.reduce_patience) == ("plateau", 4)
    assert (recipe.fit.steps_per_epoch, recipe.fit.valid_images) == (200, 200)
    assert (recipe.loss.name, recipe.mask.threshold, recipe.input.color) == ("bce_dice", 127, "bgr")
    assert recipe.infer.overlap_px == 128
    assert recipe.class_list[1].color == (0, 255, 0)
    assert recipe.augment.angles_deg == (90, 180, 270)
    assert recipe.sources[0].test.images == "../../../dataset/Tiled-Skin-Cancer/test/images"
    assert recipe.name == "tiled-skin-cancer"


def test_slips_are_said(tmp_path: Path) -> None:
    notes = "\n".join(convert_config(written(tmp_path, SKIN)).notes)
    line = SKIN.splitlines().index("alpah    = 1300") + 1
    assert f"[deformation] alpah (line {line}) is read as [deformation] alpha" in notes
    assert "a comma is missing between 90 and 180; read as [90, 180, 270]" in notes


def test_what_has_no_effect_says_why(tmp_path: Path) -> None:
    unused = convert_config(written(tmp_path, SKIN)).unused
    assert (
        "[segmentation] blursize: understood, has no effect: the seeds read it and never use it"
        in unused
    )


def test_every_known_key_becomes_something_or_says_why_not() -> None:
    assert all(key.becomes or key.why for key in KEYS.values())
    assert len(KEYS) > 130


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("base_filter = 16", "did you mean 'base_filters'?"),
        ("patience = 3", "'patience' belongs to [train]."),
    ],
)
def test_an_unknown_key_names_the_nearest_one(tmp_path: Path, line: str, hint: str) -> None:
    path = written(tmp_path, f"[model]\n{line}\n")
    with pytest.raises(RecipeError, match=r"line 2, \[model\]: unknown key") as caught:
        load_recipe(path)
    assert caught.value.hint == hint


def test_an_unknown_section_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown section \[tran\]") as caught:
        load_recipe(written(tmp_path, "[tran]\nepochs = 3\n"))
    assert caught.value.hint == "did you mean [train]?"


def test_a_file_of_quoted_blocks_counts_the_last_of_two_values(tmp_path: Path) -> None:
    text = "[model]\ngenerator = True\n[train]\nepochs = 3\n[model]\ngenerator = False\n"
    conversion = convert_config(written(tmp_path, text))
    assert conversion.tree["augment"]["enabled"] is False
    assert any("generator is there twice" in note for note in conversion.notes)
    assert conversion.tree["sources"][0]["path"] == "."


def test_the_older_form_tests_on_what_eval_names(tmp_path: Path) -> None:
    text = """[model]
image_width = 256
image_height = 256
num_layers = 6
[train]
image_datapath = "./ALL/train/original/"
mask_datapath  = "./ALL/train/segmented/"
category       = "Early"
[eval]
image_datapath = "./ALL/test/original/"
mask_datapath  = "./ALL/test/segmented/"
category       = "Early"
"""
    source = load_recipe(written(tmp_path, text)).sources[0]
    assert source.train.images == "./ALL/train/original/Early"
    assert source.valid is None
    assert source.test.masks == "./ALL/test/segmented/Early"


def test_a_colour_map_becomes_classes_in_order(tmp_path: Path) -> None:
    text = "[model]\nmodel='TensorFlowFlexUNet'\n[mask]\nrgb_map = {(0,255,0):1,(0,0,0):0}\n"
    classes = load_recipe(written(tmp_path, text)).classes
    assert [item.mask_colors for item in classes] == [((0, 0, 0),), ((0, 255, 0),)]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[model]\nmodel = 'TensorflowUnetttt'\n", "TensorflowUNet"),
        ("[model]\nloss = 'bce_dice_los'\n", "loss"),
        ("[image]\ncolor_converter = 'cv2.COLOR_BGR2LUV'\n", "color_converter must be one of"),
        ("[train]\nepochs = 'many'\n", "epochs must be a number"),
        ("no section\n", "line 1"),
        ("[model]\nbase_kernels = (7,7\n", r"\[model\] base_kernels"),
    ],
)
def test_a_value_that_cannot_be_is_named(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        load_recipe(written(tmp_path, text))


def test_a_recipe_written_as_toml_reads_back_as_the_same(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, SKIN))
    path = tmp_path / "again.toml"
    path.write_text(recipe_text(recipe, ("made",)))
    assert load_recipe(path) == recipe
    assert re.match("# made\n", path.read_text())


def test_converted_trees_hold_no_key_that_recipes_lack(tmp_path: Path) -> None:
    path = written(tmp_path, SKIN)
    assert check_recipe(convert_config(path).tree, path).target.kind == "classes"


def test_text_after_a_comment_sign_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "[train]\nepochs = 5 ; few\nmodel_dir = './a;b'\n")
    keys = read_ini(path).sections["train"]
    assert (keys["epochs"].value, keys["model_dir"].value) == (5, "./a;b")


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("gamma = 0.6", "gamma", 0.6),
        ("gamma = 0", "gamma", 1.0),
        ('color_converter = "cv2.COLOR_BGR2HSV"', "color", "hsv"),
        ('color_converter = "cv2.COLOR_BGR2LAB"', "color", "lab"),
    ],
)
def test_gamma_and_curved_colour_spaces_become_part_of_the_network(
    tmp_path: Path, line: str, key: str, value: object
) -> None:
    recipe = load_recipe(written(tmp_path, f"{SKIN}[image]\n{line}\n"))
    assert getattr(recipe.input, key) == value


def test_a_gamma_below_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"\[image\] gamma must be 0"):
        load_recipe(written(tmp_path, f"{SKIN}[image]\ngamma = -1\n"))
