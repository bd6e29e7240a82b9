"""Write docs/recipes.md, docs/seed-keys.md and docs/schema/recipe.schema.json from the code.

python bench/recipe_pages.py
"""

from __future__ import annotations

import json
from pathlib import Path

from cellseg.train.recipes.page import recipe_page, seed_keys_page
from cellseg.train.recipes.recipe import recipe_schema

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    """Write the three files."""
    schema = json.dumps(recipe_schema(), indent=2) + "\n"
    (DOCS / "schema" / "recipe.schema.json").write_text(schema, encoding="utf-8")
    (DOCS / "recipes.md").write_text(recipe_page(), encoding="utf-8")
    (DOCS / "seed-keys.md").write_text(seed_keys_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
