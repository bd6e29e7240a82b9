"""Hold runs of one recipe against each other on labelled images, each with a few rules for cells.

    python bench/weigh_runs.py runs/old runs/new runs/new-75 --data DIR --train-images 60

Which weights are taken is settled by this table: scores of the validation split alone, and of it
with some training images (`bench/head.py` chooses among more rules, for one run). The test split
has no say. Prints a Markdown table and keeps it in bench/results/weigh-runs.json.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contest import save_record
from head import Head, images_to_choose_by, overall, predictor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellseg.train.sections import Recipe

RESULT = Path(__file__).parent / "results" / "weigh-runs.json"
DEPTHS = (0.2, 0.3)
BLURS_PX = (1.25, 1.6, 2.0)


def heads_of(recipe: Recipe) -> list[Head]:
    """Return rules about the recipe's own."""
    own = recipe.bundle
    return [
        Head(
            threshold=0.5,
            seed_threshold=own.seed_threshold,
            seed_depth=depth,
            seed_blur_px=blur_px,
            min_area_px=own.min_area_px,
            min_sure=own.min_sure,
            neck_depth=own.neck_depth,
        )
        for depth, blur_px in itertools.product(DEPTHS, BLURS_PX)
    ]


def weigh(run: Path, data: Path, train_images: int) -> list[dict[str, Any]]:
    """Score a run with each rule, on validation alone and on all images."""
    from cellseg.train.scores.evaluate import score_image, summarize
    from cellseg.train.sections import Recipe

    recipe = Recipe.model_validate_json((run / "recipe.json").read_text(encoding="utf-8"))
    predict = predictor(run, recipe)
    unseen, seen = images_to_choose_by(recipe, data, train_images)
    pairs = [(item, predict(item.image)) for item in (*unseen, *seen)]
    rows = []
    for head in heads_of(recipe):
        rule = head.rule(recipe)
        scores = [score_image(item, found, rule, head.threshold) for item, found in pairs]
        for name, some in (("validation", scores[: len(unseen)]), ("with training", scores)):
            summary = summarize(some)
            rows.append(
                asdict(head)
                | {"run": run.name, "images": name, "score": overall(summary, recipe)}
                | {"sources": {source: asdict(found) for source, found in summary.items()}}
            )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Format rows as Markdown, those of one set of images together, best first."""
    sources = list(rows[0]["sources"])
    lines = [
        f"| images | run | depth | blur, px | score | Dice ({', '.join(sources)}) "
        "| F1 (mean of images) | F1 (pooled) | count error, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["images"], -row["score"])):
        parts = [
            ", ".join(f"{row['sources'][name][key] * times:.{digits}f}" for name in sources)
            for key, times, digits in (
                ("dice", 1, 3),
                ("f1", 1, 3),
                ("f1_pooled", 1, 3),
                ("count_error", 100, 1),
            )
        ]
        lines.append(
            f"| {row['images']} | {row['run']} | {row['seed_depth']} | {row['seed_blur_px']} "
            f"| {row['score']:.4f} | {' | '.join(parts)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Score every run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train-images", type=int, default=60, help="of each source, too")
    options = parser.parse_args()
    rows = [row for run in options.runs for row in weigh(run, options.data, options.train_images)]
    save_record(RESULT, {"train_images": options.train_images, "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
