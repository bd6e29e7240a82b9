"""Lay out a recipe's sources as folders of links, one a source and split.

    python bench/source_folders.py nuclei --data DIR -o runs/sources

makes ``runs/sources/test/dsb-he/{images,masks,labels}`` and so on: the form in which `export` takes
labelled folders, so that quality is measured for each modality by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg.train.images.cell_crops import source_images
from cellseg.train.recipes.recipe import load_recipe

if TYPE_CHECKING:
    from cellseg.train.sections import SourceRecipe

SPLITS = ("train", "valid", "test")


def link_source(source: SourceRecipe, data: Path, split: str, out: Path) -> int:
    """Link the images of one source and split with their masks and labels; returns how many."""
    paths = source_images(source, data, split)
    root = (data / source.path).resolve()
    for part in ("images", "masks", "labels"):
        (out / split / source.name / part).mkdir(parents=True, exist_ok=True)
    for path in paths:
        for part in ("images", "masks", "labels"):
            name = path.name if part == "images" else f"{path.stem}.png"
            _link(root / split / part / name, out / split / source.name / part / name)
    _link(root / "classes.json", out / split / source.name / "classes.json")
    return len(paths)


def _link(target: Path, link: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target)


def main() -> None:
    """Link everything and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    for split in SPLITS:
        for source in load_recipe(options.recipe).sources:
            count = link_source(source, options.data, split, options.out)
            print(f"{split:6} {source.name:20} {count}")


if __name__ == "__main__":
    main()
