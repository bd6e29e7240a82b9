"""Compare networks at equal training: Dice, F1, cost a pixel, speed.

    python bench/networks.py --data DIR -o runs/networks [--steps 600] [--only stem-16x4,...]

Each network is trained with the shipped ``nuclei`` recipe, its model and length replaced, on the
same crops in the same order; Dice and F1 are on the validation split, never on the test split.
Speed is of the exported fp32 and int8 models on 1024 x 1024 tiles, the networks taking turns.
Training ends with ``RESULTS.json`` a network; the table is made from these files.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

STEPS_PER_EPOCH = 100


@dataclass(frozen=True)
class Network:
    """One contestant."""

    base_filters: int
    levels: int
    stem: bool

    @property
    def name(self) -> str:
        """Name in the table."""
        return f"{'stem' if self.stem else 'plain'}-{self.base_filters}x{self.levels}"


NETWORKS = (
    Network(16, 4, stem=True),
    Network(24, 4, stem=True),
    Network(8, 4, stem=False),
    Network(8, 5, stem=False),
    Network(16, 4, stem=False),
)


@dataclass(frozen=True)
class Seeds:
    """How instances are grown from the interior channel."""

    interior_channel: int = 1
    seed_threshold: float = 0.6
    seed_blur_px: float = 1.0
    min_seed_px: int = 12
    min_area_px: int = 16


def train_and_score(network: Network, data: Path, folder: Path, steps: int) -> dict[str, Any]:
    """Train one network, score it on validation, and keep the facts in ``RESULTS.json``."""
    import keras

    from cellseg.train.data import load_source, padded_to
    from cellseg.train.evaluate import score_images, summarize
    from cellseg.train.fit import predict, train
    from cellseg.train.models import kflop_per_pixel, network_stride
    from cellseg.train.recipe import load_recipe

    recipe = load_recipe(
        "nuclei",
        {
            "model.base_filters": network.base_filters,
            "model.levels": network.levels,
            "model.stem": network.stem,
            "target.distance": False,
            "fit.steps_per_epoch": STEPS_PER_EPOCH,
            "fit.epochs": steps // STEPS_PER_EPOCH,
        },
    )
    started = time.perf_counter()
    train(recipe, data, folder, resume=(folder / "state.npz").exists())
    model = keras.saving.load_model(folder / "best.keras", compile=False)
    stride = network_stride(recipe.model)

    def whole(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        return predict(model, padded_to(image, stride))[:height, :width]

    images = [
        item
        for source in recipe.sources
        for item in load_source(source, data, "valid", recipe.normalize)
    ]
    summary = summarize(score_images(images, whole, Seeds()))
    facts = {
        "name": network.name,
        "parameters": model.count_params(),
        "kflop_per_px": kflop_per_pixel(model),
        "steps": steps,
        "seconds": time.perf_counter() - started,
        "valid": {name: {"dice": s.dice, "f1": s.f1} for name, s in summary.items()},
    }
    (folder / "RESULTS.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def main() -> None:
    """Train what is not trained yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    wanted = set(options.only.split(",")) - {""}
    for network in NETWORKS:
        folder = options.out / network.name
        if (wanted and network.name not in wanted) or (folder / "RESULTS.json").exists():
            continue
        train_and_score(network, options.data, folder, options.steps)


if __name__ == "__main__":
    main()
