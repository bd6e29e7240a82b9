"""Make a run of the mean of two sets of weights: what a run began with, and what it ended at.

    python bench/mean_weights.py runs/nuclei --data DIR -o runs/nuclei-mean

What a network gains on images like the labelled ones by being trained on, it may lose on others;
half way between both it can have most of either (Wortsman et al., "Robust fine-tuning of zero-shot
models", CVPR 2022). Statistics of norms are measured anew, in training mode, as means of weights
have others than means of statistics.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import keras

from cellseg.train.networks.model import load_network
from cellseg.train.networks.norms import settle_norms
from cellseg.train.sections import Recipe
from cellseg.train.tasks.task import open_task

SETTLING_STEPS = 25  # as a run that begins with a bundle
MEASURING_STEPS = range(1000, 1150)  # of crops; a norm's memory is 50 of them
COPIED = ("recipe.json", "model.json", "metrics.csv", "metrics.png")


def main() -> None:
    """Make the mean, validate it, write the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="holds begin.keras and best.keras")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.5, help="of the end")
    options = parser.parse_args()
    recipe = Recipe.model_validate_json((options.run / "recipe.json").read_text(encoding="utf-8"))
    task = open_task(recipe, options.data)
    crops = task.crops(0)
    begin = load_network(options.run / "begin.keras")
    settle_norms(begin, (crops[step][0] for step in range(SETTLING_STEPS)))
    model = load_network(options.run / "best.keras")
    pairs = zip(begin.get_weights(), model.get_weights(), strict=True)
    model.set_weights([a + options.share * (b - a) for a, b in pairs])
    for step in MEASURING_STEPS:
        model(keras.ops.convert_to_tensor(crops[step][0]), training=True)
    options.out.mkdir(parents=True)
    model.save(options.out / "best.keras")
    for name in COPIED:
        shutil.copy(options.run / name, options.out / name)
    print(task.validate(model))


if __name__ == "__main__":
    main()
