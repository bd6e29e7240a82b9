"""How fast training crops are made: a lens against the seeds' loop, and crops against a step.

    python bench/augment.py [--size 512] [--repeats 5]

The seeds' barrel distortion is written anew here from its description: a Python loop over all
pixels, one for the image and one for the mask. Both are timed in turn, side by side; the numbers
that last are ratios. The second part makes crops with everything that seed 001 switches on, and
runs training steps of the smallest seed network (002) at the same size, on the same machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from cellseg.train.augment.warp import draw_warp, sample_image, sample_mask
from cellseg.train.recipes.recipe import load_recipe
from cellseg.train.sections import AugmentRecipe
from cellseg.train.seed.augment import AUGMENT_OFF

RESULT = Path(__file__).parent / "results" / "augment.json"
RADIUS, AMOUNT = 0.3, 0.3


def seed_barrel(array: np.ndarray, center: tuple[float, float]) -> np.ndarray:
    """One lens as the seeds compute it: a map filled pixel by pixel, then remapped."""
    height, width = array.shape[:2]
    cx, cy, radius = center[0] * width, center[1] * height, RADIUS * width
    map_x = np.zeros((height, width), np.float32)
    map_y = np.zeros((height, width), np.float32)
    for y in range(height):
        dy = y - cy
        for x in range(width):
            dx = x - cx
            distance = dx * dx + dy * dy
            if distance >= radius * radius:
                map_x[y, x], map_y[y, x] = x, y
                continue
            factor = 1.0
            if distance > 0:
                factor = math.pow(math.sin(math.pi * math.sqrt(distance) / radius / 2), AMOUNT)
            map_x[y, x], map_y[y, x] = factor * dx + cx, factor * dy + cy
    return cv2.remap(array, map_x, map_y, cv2.INTER_LINEAR)


def our_barrel(image: np.ndarray, mask: np.ndarray, center: tuple[float, float]) -> None:
    """One lens on image and mask as training makes it."""
    values = {"barrel_p": 1.0, "lens_radius": RADIUS, "lens_amount": AMOUNT}
    recipe = AugmentRecipe.model_validate(AUGMENT_OFF | values | {"lens_centers": (center,)})
    warp = draw_warp(np.random.default_rng(0), recipe, np.eye(2, 3), mask.shape)
    sample_image(image, warp)
    sample_mask(mask, warp)


def lens_times(size: int, repeats: int) -> dict[str, float]:
    """Median seconds of a lens on image and mask, both ways, in turn."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
    mask = (image[..., 0] > 127).astype(np.uint8)
    center = (0.5, 0.5)
    our_barrel(image, mask, center)  # compiles
    theirs, ours = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        seed_barrel(image, center)
        seed_barrel(mask, center)
        middle = time.perf_counter()
        our_barrel(image, mask, center)
        theirs.append(middle - start)
        ours.append(time.perf_counter() - middle)
    seed_s, ours_s = statistics.median(theirs), statistics.median(ours)
    return {"seed_s": seed_s, "ours_s": ours_s, "ratio": seed_s / ours_s}


def crop_time(size: int, repeats: int) -> float:
    """Median seconds of a crop with all that seed 001 switches on."""
    from cellseg.train.augment.crop import jitter_intensity

    recipe = load_recipe("deepcell").augment
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
    times = []
    for _ in range(20 * repeats):
        start = time.perf_counter()
        warp = draw_warp(rng, recipe, np.eye(2, 3), (size, size))
        jitter_intensity(sample_image(image, warp), rng, recipe)
        sample_mask(image[..., 0], warp)
        times.append(time.perf_counter() - start)
    return statistics.fmean(times)


def step_time(size: int, repeats: int) -> float:
    """Median seconds of a training step for one image, network of seed 002."""
    from cellseg.train.networks.model import build_network
    from cellseg.train.objectives import make_loss

    model = build_network(load_recipe("leukemia"))
    model.compile("adam", make_loss("bce"))
    x = np.random.default_rng(0).random((2, size, size, 3), np.float32) * 255
    y = (x[..., :1] > 127).astype(np.float32)
    model.train_on_batch(x, y)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.train_on_batch(x, y)
        times.append((time.perf_counter() - start) / len(x))
    return statistics.median(times)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="side of an image, px")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    lens = lens_times(asked.size, asked.repeats)
    crop_s, step_s = crop_time(asked.size, asked.repeats), step_time(asked.size, asked.repeats)
    found = {
        "size_px": asked.size,
        "cores": os.cpu_count(),
        "lens": lens,
        "crop_s": crop_s,
        "step_s_per_image": step_s,
        "step_per_crop": step_s / crop_s,
    }
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(
        f"a lens on image and mask, {asked.size} px: seeds' loop {lens['seed_s'] * 1e3:.0f} ms, "
        f"ours {lens['ours_s'] * 1e3:.1f} ms: {lens['ratio']:.0f}x"
    )
    print(
        f"a crop with all of seed 001's changes: {crop_s * 1e3:.1f} ms; a training step of seed "
        f"002's network: {step_s * 1e3:.0f} ms an image: {step_s / crop_s:.0f} crops a step's image"
    )


if __name__ == "__main__":
    main()
