"""Choose a run's thresholds and seeds on labelled images, and keep the table.

    python bench/head.py runs/nuclei --data DIR --train-images 40

Every combination of thresholds, depth, blur, smallest area, sureness and necks is scored on whole
images: those of the validation split and, since they are few, some of the training split (their
labels have been seen, but a head is a few numbers). Its score is the mean of Dice and object F1,
the sources weighing as in the recipe (one with fewer than three images has no say).
What is taken goes into the recipe by hand (``[bundle]``); ``--apply`` writes the best into the
run's ``model.json``, which the exporter reads. The test split has no say.
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
    from cellseg.runtime.bundles.manifest import InteriorBorder
    from cellseg.runtime.evaluation.images import SourceScore
    from cellseg.train.images.cell_crops import LabelledImage
    from cellseg.train.scores.evaluate import Predict
    from cellseg.train.sections import Recipe

THRESHOLDS = (0.5,)
SEED_THRESHOLDS = (0.2, 0.3)
SEED_DEPTHS = (0.15, 0.2, 0.25, 0.3)
BLURS_PX = (1.25, 2.0)
MIN_AREAS_PX = (25,)
MIN_SURES = (0.4, 0.5, 0.6)
NECK_DEPTHS = (0.0, 0.2)
FEWEST_IMAGES = 3
PLATEAU = 0.003
RESULTS = Path(__file__).parent / "results" / "head.json"


@dataclass(frozen=True)
class Head:
    """One way from probabilities to cells."""

    threshold: float
    seed_threshold: float
    seed_depth: float
    seed_blur_px: float
    min_area_px: int
    min_sure: float
    neck_depth: float

    def rule(self, recipe: Recipe) -> InteriorBorder:
        """Return the rule for cells; what this leaves open is the recipe's."""
        from cellseg.runtime.bundles.manifest import InteriorBorder

        return InteriorBorder(
            interior_channel=1,
            seed_threshold=self.seed_threshold,
            seed_depth=self.seed_depth,
            seed_blur_px=self.seed_blur_px,
            min_seed_px=recipe.bundle.min_seed_px,
            min_area_px=self.min_area_px,
            sure_probability=recipe.bundle.sure_probability,
            min_sure=self.min_sure,
            neck_depth=self.neck_depth,
        )


def images_to_choose_by(
    recipe: Recipe, data: Path, train_images: int
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Load validation images, and up to so many training images of each source."""
    from cellseg.train.images.cell_crops import load_source

    rng, unseen, some = np.random.default_rng(0), [], []
    for source in recipe.sources:
        unseen += load_source(source, data, "valid", recipe.normalize)
        seen = load_source(source, data, "train", recipe.normalize) if train_images else []
        some += [seen[i] for i in sorted(rng.permutation(len(seen))[:train_images])]
    return unseen, some


def predictor(run: Path, recipe: Recipe) -> Predict:
    """Return what a run's best weights say of a whole image."""
    import keras

    from cellseg.train.scores.evaluate import whole_image_predictor

    model = keras.saving.load_model(run / "best.keras", compile=False)
    return whole_image_predictor(model, recipe.model)


def score_heads(run: Path, data: Path, train_images: int) -> list[dict[str, Any]]:
    """Score every head, best first."""
    from cellseg.train.scores.evaluate import score_image, summarize
    from cellseg.train.sections import Recipe

    recipe = Recipe.model_validate_json((run / "recipe.json").read_text(encoding="utf-8"))
    predict = predictor(run, recipe)
    unseen, seen = images_to_choose_by(recipe, data, train_images)
    pairs = [(item, predict(item.image)) for item in (*unseen, *seen)]
    rows = []
    for values in itertools.product(
        THRESHOLDS, SEED_THRESHOLDS, SEED_DEPTHS, BLURS_PX, MIN_AREAS_PX, MIN_SURES, NECK_DEPTHS
    ):
        head = Head(*values)
        rule = head.rule(recipe)
        scores = [score_image(item, found, rule, head.threshold) for item, found in pairs]
        summary = summarize(scores)
        sources = {name: {"dice": s.dice, "f1": s.f1} for name, s in summary.items()}
        rows.append(asdict(head) | {"score": overall(summary, recipe), "sources": sources})
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
    for key in Head.__dataclass_fields__.keys() - {"threshold"}:
        facts["head"]["instances"][key] = best[key]
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def format_table(rows: list[dict[str, Any]]) -> str:
    """Format the given rows as a Markdown table."""
    sources = list(rows[0]["sources"])
    names = ", ".join(sources)
    lines = [
        "| threshold | seed | depth | blur, px | least area, px | sure | neck | score "
        f"| Dice ({names}) | F1 (same) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        dice, f1 = (
            ", ".join(f"{row['sources'][n][key]:.3f}" for n in sources) for key in ("dice", "f1")
        )
        lines.append(
            f"| {row['threshold']} | {row['seed_threshold']} | {row['seed_depth']} "
            f"| {row['seed_blur_px']} | {row['min_area_px']} | {row['min_sure']} "
            f"| {row['neck_depth']} | {row['score']:.4f} | {dice} | {f1} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Score all heads, keep them as JSON, print the best and the one in the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train-images", type=int, default=0, help="of each source, too")
    parser.add_argument("--apply", action="store_true", help="write the best into model.json")
    options = parser.parse_args()
    rows = score_heads(options.run, options.data, options.train_images)
    plateau = [row for row in rows if row["score"] > rows[0]["score"] - PLATEAU]
    RESULTS.write_text(json.dumps(plateau, indent=1) + "\n", encoding="utf-8")
    print(format_table(rows[:10]))
    if options.apply:
        apply_head(options.run, rows[0])


if __name__ == "__main__":
    main()
