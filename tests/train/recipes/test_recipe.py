"""Recipes: shipped ones load, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellseg.errors import RecipeError
from cellseg.train.recipes.recipe import describe_recipe, load_recipe, shipped_recipes

MINIMAL = 'name = "x"\n[[sources]]\nname = "a"\npath = "a"\n'


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name).name == name


def test_overrides_replace_values() -> None:
    assert load_recipe("nuclei", {"fit.epochs": 3}).fit.epochs == 3


def test_a_misspelled_key_goes_before_the_one_that_is_missing_for_it(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("nmae = 'r'\n")
    with pytest.raises(RecipeError, match="unknown key 'nmae'") as caught:
        load_recipe(str(path))
    assert caught.value.hint == "did you mean 'name'?"


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL.replace("name =", "# name =", 1))
    with pytest.raises(RecipeError, match=r"r\.toml: a recipe must state name\.$"):
        load_recipe(str(path))


def test_a_misspelled_key_names_the_nearest_one(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL + "[fit]\nlearning_rat = 0.1\n")
    with pytest.raises(RecipeError, match=r"unknown key 'fit\.learning_rat'") as caught:
        load_recipe(path)
    assert caught.value.hint == "did you mean 'learning_rate'?"


def test_a_misspelled_key_of_a_source_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL + "wieght = 2\n")
    with pytest.raises(RecipeError, match="wieght") as caught:
        load_recipe(path)
    assert caught.value.hint == "did you mean 'weight'?"


def test_a_wrong_value_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL + "[fit]\nepochs = -1\n")
    with pytest.raises(RecipeError, match=r"fit\.epochs.*Received: -1"):
        load_recipe(path)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_cannot_be_is_refused(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL + f"[fit]\nseed = {seed}\n")
    with pytest.raises(RecipeError, match=rf"fit\.seed.*Received: {seed}"):
        load_recipe(path)


def test_crops_that_the_network_cannot_halve_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL + "[fit]\ncrop_px = 200\n")
    with pytest.raises(RecipeError, match=r"fit\.crop_px must be a multiple.*16 px"):
        load_recipe(path)


def test_numbered_objects_lie_in_a_path(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    folders = '[sources.train]\nimages = "a"\nmasks = "b"\n'
    path.write_text(MINIMAL.replace('path = "a"\n', folders))
    with pytest.raises(RecipeError, match="sources need a path"):
        load_recipe(path)


def test_images_without_numbered_objects_cannot_be_drawn_by_them(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL + 'draw = "by-objects"\n[target]\nkind = "classes"\n')
    with pytest.raises(RecipeError, match="by-objects.*needs numbered objects"):
        load_recipe(path)


def test_classes_have_no_interior_and_border_to_lose(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL + '[target]\nkind = "classes"\n[loss]\nname = "interior_border"\n')
    with pytest.raises(RecipeError, match="interior_border.*needs numbered objects: choose"):
        load_recipe(path)


@pytest.mark.parametrize("text", ["name = ", "\x00"], ids=["half a line", "not text"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_recipe(path)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("nucleii")
    assert "nuclei" in str(caught.value.hint)


def test_a_description_names_every_key_with_its_meaning() -> None:
    text = describe_recipe(load_recipe("nuclei"))
    assert "learning_rate = 0.002  (peak of the schedule)" in text
    assert text.count("[sources]") == 4
