"""The reference pages and the schema in docs/ are what the code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("keras", reason="the losses' formulas are in their docstrings")

from cellseg.train.recipes.page import recipe_page, seed_keys_page
from cellseg.train.recipes.recipe import load_recipe, recipe_schema, shipped_recipes
from cellseg.train.sections import Recipe

HINT = "out of date: python bench/recipe_pages.py"


def test_the_pages_are_current(repository: Path) -> None:
    docs = repository / "docs"
    assert (docs / "recipes.md").read_text(encoding="utf-8") == recipe_page(), HINT
    assert (docs / "seed-keys.md").read_text(encoding="utf-8") == seed_keys_page(), HINT


def test_the_schema_is_current(repository: Path) -> None:
    text = (repository / "docs" / "schema" / "recipe.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == recipe_schema(), HINT


def test_every_key_has_a_description() -> None:
    schema = Recipe.model_json_schema()
    for name, section in schema["$defs"].items():
        for key, field in section["properties"].items():
            assert field.get("description"), f"{name}.{key}"


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_say_what_they_are(name: str) -> None:
    assert load_recipe(name).bundle.description
