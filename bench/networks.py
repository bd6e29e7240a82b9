"""Compare networks at equal training: Dice, F1, cost a pixel, speed.

    python bench/networks.py --data DIR -o runs/networks [--steps 300] [--only stem-16x4,...]
    python bench/networks.py --data DIR -o runs/networks --table

Each network is trained with the shipped ``nuclei`` recipe, its model and length replaced, on the
same crops in the same order; Dice and F1 are on the validation split, never on the test split.
Training ends with ``RESULTS.json`` a network. ``--table`` exports every network, runs OpenVINO on
1024 x 1024 tiles in fp32 and int8, the networks taking turns, and fills docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STEPS_PER_EPOCH = 100
TILE_PX = 1024
ROUNDS = 5


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


def train_and_score(network: Network, data: Path, folder: Path, steps: int) -> dict[str, Any]:
    """Train one network, score it on validation, and keep the facts in ``RESULTS.json``."""
    import keras

    from cellseg.runtime.bundles.manifest import InteriorBorder
    from cellseg.train.images.cell_crops import load_source
    from cellseg.train.loop.fit import train
    from cellseg.train.networks.model import kflop_per_pixel
    from cellseg.train.recipes.recipe import load_recipe
    from cellseg.train.scores.evaluate import score_images, summarize, whole_image_predictor

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
    whole = whole_image_predictor(model, recipe.model)
    images = [
        item
        for source in recipe.sources
        for item in load_source(source, data, "valid", recipe.normalize)
    ]
    bundle = recipe.bundle
    rule = InteriorBorder(
        interior_channel=1,
        seed_threshold=bundle.seed_threshold,
        seed_depth=bundle.seed_depth,
        seed_blur_px=bundle.seed_blur_px,
        min_seed_px=bundle.min_seed_px,
        min_area_px=bundle.min_area_px,
        sure_probability=bundle.sure_probability,
        min_sure=bundle.min_sure,
        neck_depth=bundle.neck_depth,
    )
    summary = summarize(score_images(images, whole, rule, bundle.threshold))
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


def open_engines(folder: Path, tiles: list[np.ndarray]) -> dict[str, Any]:
    """Export a trained network and open it in OpenVINO as fp32 and int8."""
    import keras

    from cellseg.export.precisions.ranges import collect_distributions
    from cellseg.export.precisions.u8s8 import quantize_u8s8
    from cellseg.export.sources.translate import float_graph
    from cellseg.runtime.engines import ENGINES, EngineOptions

    model = keras.saving.load_model(folder / "best.keras", compile=False)
    graph = float_graph(model, (0, 1, 2), 3)
    small = [tile[:256, :256] for tile in tiles]
    int8 = quantize_u8s8(graph, collect_distributions(graph, small), "minmax")
    adapter = ENGINES["openvino"].load("openvino")
    return {
        precision: adapter(
            file.SerializeToString(), EngineOptions(precision, (TILE_PX, TILE_PX), 3, 2)
        )
        for precision, file in (("fp32", graph), ("int8", int8))
    }


def measure_speed(folders: list[Path], data: Path) -> dict[str, dict[str, list[float]]]:
    """Megapixels a second of each network and precision, round by round."""
    import cv2

    path = min((data / "breast_tumour_large" / "images").iterdir())
    image = cv2.imread(str(path))[..., ::-1]
    tiles = [np.ascontiguousarray(image[:TILE_PX, x : x + TILE_PX]) for x in (0, 800, 1600)]
    speeds: dict[str, dict[str, list[float]]] = {}
    engines = {folder.name: open_engines(folder, tiles) for folder in folders}
    for _ in range(ROUNDS):
        for name, by_precision in engines.items():
            for precision, engine in by_precision.items():
                engine.infer(tiles[0])
                started = time.perf_counter()
                for tile in tiles:
                    engine.infer(tile)
                found = len(tiles) * TILE_PX**2 / 1e6 / (time.perf_counter() - started)
                speeds.setdefault(name, {}).setdefault(precision, []).append(found)
    return speeds


def format_table(facts: list[dict[str, Any]], speeds: dict[str, dict[str, list[float]]]) -> str:
    """Format one row a network, cheapest first."""
    sources = list(facts[0]["valid"])
    lines = [
        f"{facts[0]['steps']} steps of 8 crops of 192 px each.",
        "",
        "| network | parameters | kFLOP/px | Dice "
        + "("
        + ", ".join(sources)
        + ") | F1 (same) | fp32, MP/s | int8, MP/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(facts, key=lambda row: row["kflop_per_px"]):
        dice, f1 = (
            ", ".join(f"{row['valid'][name][key]:.3f}" for name in sources)
            for key in ("dice", "f1")
        )
        fp32, int8 = (float(np.median(speeds[row["name"]][key])) for key in ("fp32", "int8"))
        lines.append(
            f"| {row['name']} | {row['parameters'] / 1e6:.2f} M | {row['kflop_per_px']:.1f} "
            f"| {dice} | {f1} | {fp32:.2f} | {int8:.2f} |"
        )
    return "\n".join(lines)


def write_table(data: Path, out: Path) -> None:
    """Measure speeds of what is trained, keep them as JSON, fill the page."""
    from pages import write_section

    folders = [out / network.name for network in NETWORKS]
    folders = [folder for folder in folders if (folder / "RESULTS.json").exists()]
    facts = [json.loads((folder / "RESULTS.json").read_text()) for folder in folders]
    speeds = measure_speed(folders, data)
    path = Path(__file__).parent / "results" / "networks.json"
    path.write_text(json.dumps({"networks": facts, "mpx_s": speeds}, indent=2) + "\n")
    write_section("benchmarks.md", "networks", format_table(facts, speeds))


def main() -> None:
    """Train what is not trained yet, or make the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--table", action="store_true", help="measure speed, fill the page")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.table:
        write_table(options.data, options.out)
        return
    wanted = set(options.only.split(",")) - {""}
    for network in NETWORKS:
        folder = options.out / network.name
        if (wanted and network.name not in wanted) or (folder / "RESULTS.json").exists():
            continue
        train_and_score(network, options.data, folder, options.steps)


if __name__ == "__main__":
    main()
