"""How well a recipe does on fields it was not trained on: cross-validation inside train and valid.

    python bench/cross_validate.py RECIPE DATA --label TEXT [--folds 3] [--scored N]
        [--set KEY=VALUE]...

For data sets whose validation is too small to choose by. The training and validation images of a
two-class recipe's one source are dealt to folds, images of one field together (as `data split`
finds them); each fold is scored by a net that was trained on the others. The test split is not
opened. Each call adds a row to ``bench/results/cross-validate-NAME.json``. Nets of a fold start and
train as the recipe says; seconds are processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellseg.commands.options import parse_setting
from cellseg.data.form.dataset import open_dataset
from cellseg.data.splits.leaks import find_leaks, join_groups

if TYPE_CHECKING:
    from cellseg.data.form.dataset import Item
    from cellseg.train.sections import Recipe

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
RESULTS = Path(__file__).parent / "results"
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
HALF = THRESHOLDS.index(0.5)


def groups_of(items: list[Item]) -> list[list[int]]:
    """Group the indices of images by their field, the largest group first."""
    names = join_groups([item.stem for item in items], find_leaks(items))
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        found.setdefault(name, []).append(index)
    return sorted(found.values(), key=lambda group: (-len(group), group))


def deal(groups: list[list[int]], folds: int) -> list[list[int]]:
    """Put each group into the fold that has least."""
    dealt: list[list[int]] = [[] for _ in range(folds)]
    for group in groups:
        min(dealt, key=len).extend(group)
    return dealt


def lay_out(items: list[Item], held_out: list[int], folder: Path) -> None:
    """Make a data set of links, ``held_out`` as its validation."""
    for index, item in enumerate(items):
        split = "valid" if index in held_out else "train"
        for kind, path in (("images", item.image), ("masks", item.mask)):
            target = folder / split / kind
            target.mkdir(parents=True, exist_ok=True)
            (target / path.name).symlink_to(path.resolve())


def run_fold(recipe: Recipe, items: list[Item], held_out: list[int], work: Path) -> dict:
    """Train on the rest; pixels (right, found, true) of each image at each threshold."""
    from cellseg.train.loop.fit import train
    from cellseg.train.networks.predict import open_predictor
    from cellseg.train.scores.truth import labelled_images

    lay_out(items, held_out, work / "data" / recipe.sources[0].path)
    predictor = open_predictor(train(recipe, work / "data", work / "run"), recipe)
    counts = {}
    for _, truth in labelled_images(recipe, work / "data", "valid"):
        said, true = predictor.plain(truth.image)[..., 1], truth.classes > 0
        counts[Path(truth.name).stem] = [
            [int((found & true).sum()), int(found.sum()), int(true.sum())]
            for found in (said >= threshold for threshold in THRESHOLDS)
        ]
    return counts


def scores(counts: dict[str, list]) -> dict:
    """Dice of all pixels together, at each threshold; of each image, and their mean, at 0.5."""
    table = np.array(list(counts.values()), float)  # (images, thresholds, 3)
    dice = 2 * table[:, HALF, 0] / (table[:, HALF, 1] + table[:, HALF, 2])
    total = table.sum(0)
    pooled = (2 * total[:, 0] / (total[:, 1] + total[:, 2])).round(3)
    return {
        "dice_pooled": float(pooled[HALF]),
        "dice_mean_of_images": round(float(dice.mean()), 3),
        "dice_pooled_by_threshold": dict(zip(map(str, THRESHOLDS), pooled.tolist(), strict=True)),
        "images": dict(sorted(zip(counts, dice.round(3).tolist(), strict=True))),
    }


def cross_validate(recipe: Recipe, data: Path, folds: int, scored: int | None = None) -> dict:
    """Score the images of train and valid, each by a net that did not see its fold."""
    whole = open_dataset(data / recipe.sources[0].path)
    items = [item for item in whole.items if item.split != "test"]
    groups = groups_of(items)
    print("groups:", [[items[i].stem for i in group] for group in groups], flush=True)
    counts: dict[str, list] = {}
    for held_out in deal(groups, folds)[:scored]:
        with tempfile.TemporaryDirectory() as work:
            counts |= run_fold(recipe, items, held_out, Path(work))
        print(scores(counts), flush=True)
    return {"groups": len(groups), **scores(counts)}


def main() -> None:
    """Cross-validate one recipe and keep the row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("recipe")
    parser.add_argument("data", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--scored", type=int, help="folds to train and score, the largest first")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    from cellseg.train.recipes.recipe import load_recipe

    quiet = {"watch.plain": False}
    recipe = load_recipe(options.recipe, quiet | dict(map(parse_setting, options.set)))
    row = {"label": options.label, "set": options.set, "folds": options.folds}
    row |= {"scored": options.scored or options.folds}
    row |= cross_validate(recipe, options.data, options.folds, options.scored)
    row["cpu_s"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
    path = RESULTS / f"cross-validate-{recipe.name}.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    path.write_text(json.dumps([*rows, row], indent=1) + "\n", encoding="utf-8")
    print(f"| {row['label']} | {row['dice_pooled']:.3f} | {row['dice_mean_of_images']:.3f} |")


if __name__ == "__main__":
    main()
