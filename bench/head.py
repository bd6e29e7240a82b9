"""Choose a run's thresholds and seeds on the validation split, and keep the table.

    python bench/head.py runs/nuclei --data DIR

Every combination of foreground threshold, seed threshold, seed blur and smallest seed is scored on
whole validation images. Its score is the mean of Dice and object F1, the sources weighing as in the
recipe (one with fewer than three images has no say). What is taken goes into the recipe by hand
(``[bundle]``); ``--apply`` writes the best into the run's ``model.json``, which the exporter reads.
The test split has no say.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cellseg.train.evaluate import SourceScore
    from cellseg.train.recipe import Recipe

THRESHOLDS = (0.4, 0.5, 0.6, 0.7)
SEED_THRESHOLDS = (0.5, 0.6, 0.7, 0.8)
BLURS_PX = (0.0, 1.0, 2.0, 3.0)
MIN_SEEDS_PX = (12, 24, 40)
FEWEST_IMAGES = 3
PLATEAU = 0.003
RESULTS = Path(__file__).parent / "results" / "head.json"


@dataclass(frozen=True)
class Head:
    """One way from probabilities to cells."""

    threshold: float
    seed_threshold: float
    seed_blur_px: float
    min_seed_px: int


def score_heads(run: Path, data: Path) -> list[dict[str, Any]]:
    """Score every head on the validation split, best first."""
    import keras

    from cellseg.runtime.manifest import InteriorBorder
    from cellseg.train.data import load_source
    from cellseg.train.evaluate import score_image, summarize, whole_image_predictor
    from cellseg.train.recipe import Recipe

    recipe = Recipe.model_validate_json((run / "recipe.json").read_text(encoding="utf-8"))
    predict = whole_image_predictor(
        keras.saving.load_model(run / "best.keras", compile=False), recipe.model
    )
    images = [i for s in recipe.sources for i in load_source(s, data, "valid", recipe.normalize)]
    pairs = [(item, predict(item.image)) for item in images]
    rows = []
    for values in itertools.product(THRESHOLDS, SEED_THRESHOLDS, BLURS_PX, MIN_SEEDS_PX):
        head = Head(*values)
        rule = InteriorBorder(
            interior_channel=1,
            seed_threshold=head.seed_threshold,
            seed_blur_px=head.seed_blur_px,
            min_seed_px=head.min_seed_px,
            min_area_px=recipe.bundle.min_area_px,
        )
        scores = [score_image(item, found, rule, head.threshold) for item, found in pairs]
        summary = summarize(scores)
        sources = {name: {"dice": s.dice, "f1": s.f1} for name, s in summary.items()}
        rows.append(asdict(head) | {"score": overall(summary, recipe), "valid": sources})
    return sorted(rows, key=lambda row: -row["score"])


def overall(summary: dict[str, SourceScore], recipe: Recipe) -> float:
    """Mean of Dice and F1, sources weighted as in training; one or two images have no say."""
    weight_of = {source.name: source.weight for source in recipe.sources}
    counted = {name: s for name, s in summary.items() if s.images >= FEWEST_IMAGES}
    values = [(s.dice + s.f1) / 2 for s in counted.values()]
    return float(np.average(values, weights=[weight_of[name] for name in counted]))


def apply_head(run: Path, best: dict[str, Any]) -> None:
    """Write the best head into the run's ``model.json``."""
    path = run / "model.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["threshold"] = best["threshold"]
    for key in ("seed_threshold", "seed_blur_px", "min_seed_px"):
        facts["head"]["instances"][key] = best[key]
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def format_table(rows: list[dict[str, Any]]) -> str:
    """Format the given rows as a Markdown table."""
    sources = list(rows[0]["valid"])
    names = ", ".join(sources)
    lines = [
        f"| threshold | seed | blur, px | least seed, px | score | Dice ({names}) | F1 (same) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        dice, f1 = (
            ", ".join(f"{row['valid'][n][key]:.3f}" for n in sources) for key in ("dice", "f1")
        )
        lines.append(
            f"| {row['threshold']} | {row['seed_threshold']} | {row['seed_blur_px']} "
            f"| {row['min_seed_px']} | {row['score']:.4f} | {dice} | {f1} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Score all heads, keep them as JSON, print the best and the one in the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--apply", action="store_true", help="write the best into model.json")
    options = parser.parse_args()
    rows = score_heads(options.run, options.data)
    plateau = [row for row in rows if row["score"] > rows[0]["score"] - PLATEAU]
    RESULTS.write_text(json.dumps(plateau, indent=1) + "\n", encoding="utf-8")
    print(format_table(rows[:10]))
    if options.apply:
        apply_head(options.run, rows[0])


if __name__ == "__main__":
    main()
