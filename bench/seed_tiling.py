"""A seed's default tiled inference and ours, same network, same images: seams and Dice.

    python bench/seed_tiling.py --data DATA [--model nuclei] [--images N]

The seeds' way is written anew from its description: tiles of 512 px without overlap, black beyond
the image, each shown to the network at 512 px; the probability cut down to 8 bits; the whole image
squeezed to 512 x 512 and run once more; the two joined by a bitwise AND of grey values. A second
column has its overlap of 128 px, where the crop of 768 px is shrunk to 512. Ours is `Segmenter`,
tiles of 512 px. All get the same intensity range. DATA holds fluo_nuclei_kromp.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pages import write_section

from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines import open_engine
from cellseg.runtime.evaluation.metrics import dice
from cellseg.runtime.segmenter import Segmenter
from cellseg.train.images.cell_crops import normalized
from cellseg.train.images.masks import read_grey, read_image
from cellseg.train.sections import NormalizeRecipe

SIDE = 512
HERE = Path(__file__).parent
RESULT = HERE / "results" / "seed_tiling.json"
PICTURE = HERE.parent / "docs" / "images" / "seed-tiling.jpg"


class SeedWay:
    """The seeds' inferencers around an engine of ours."""

    def __init__(self, model: str) -> None:
        self._engine = open_engine(Bundle.open(model), "onnxruntime", "fp32", (SIDE, SIDE), None)

    def _predict(self, rgb: np.ndarray) -> np.ndarray:
        """Foreground of an image squeezed to the network's size, 0..255, at that size."""
        small = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        found = self._engine.infer(np.ascontiguousarray(small))
        return ((1.0 - found.reshape(SIDE, SIDE, -1)[..., 0]) * 255).astype(np.uint8)

    def whole(self, rgb: np.ndarray) -> np.ndarray:
        """Run the whole image once, squeezed, and enlarge."""
        found = self._predict(rgb)
        return cv2.resize(found, rgb.shape[1::-1], interpolation=cv2.INTER_CUBIC)

    def tiled(self, rgb: np.ndarray, overlap: int, bitwise: bool) -> np.ndarray:
        """Run tiles, paste them, and join them with the whole image's result if asked for."""
        height, width = rgb.shape[:2]
        out = np.zeros((height, width), np.uint8)
        for top in range(0, height, SIDE):
            for left in range(0, width, SIDE):
                self._paste(rgb, out, top, left, overlap)
        return out & self.whole(rgb) if bitwise else out

    def _paste(self, rgb: np.ndarray, out: np.ndarray, top: int, left: int, overlap: int) -> None:
        height, width = rgb.shape[:2]
        bottom, right = top + SIDE, left + SIDE
        above = overlap if top >= overlap else 0
        before = overlap if left >= overlap else 0
        below = overlap if bottom + overlap <= height else 0
        after = overlap if right + overlap <= width else 0
        y0, y1, x0, x1 = top - above, bottom + below, left - before, right + after
        crop = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)  # black beyond the image
        inside = rgb[y0 : min(y1, height), x0 : min(x1, width)]
        crop[: inside.shape[0], : inside.shape[1]] = inside
        found = self._predict(crop)
        found = cv2.resize(found, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        kept = found[above : above + SIDE, before : before + SIDE]
        part = out[top:bottom, left:right]
        part[:] = kept[: part.shape[0], : part.shape[1]]


def seam(grey: np.ndarray) -> float:
    """Mean step across the lines where the seeds' tiles meet, over the mean step of all."""
    value = grey.astype(np.float32)
    down, across = np.abs(np.diff(value, axis=0)), np.abs(np.diff(value, axis=1))
    on = [down[SIDE - 1 :: SIDE].ravel(), across[:, SIDE - 1 :: SIDE].ravel()]
    return float(np.concatenate(on).mean() / np.concatenate([down.ravel(), across.ravel()]).mean())


def score(grey: np.ndarray, truth: np.ndarray, untiled: np.ndarray) -> dict[str, float]:
    """Dice, seam (1: as without tiles) and pixels that an untiled run decides otherwise."""
    found = grey >= 128
    return {
        "dice": dice(found, truth),
        "seam": seam(grey) / seam(untiled),
        "other_than_untiled": float((found != (untiled >= 128)).mean()),
    }


def main() -> None:
    """Run all images every way, print the means, draw the first image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--images", type=int, default=8)
    asked = parser.parse_args()
    spec = Bundle.open(asked.model).manifest.input.normalize
    normalize = NormalizeRecipe(kind=spec.kind, low=spec.low, high=spec.high)
    folder = asked.data / "fluo_nuclei_kromp" / "test"
    images = sorted(folder.joinpath("images").iterdir())
    large = [path for path in images if min(read_grey(path).shape) > SIDE][: asked.images]
    seeds = SeedWay(asked.model)
    options = {"engine": "onnxruntime", "precision": "fp32"}
    ours = Segmenter.load(asked.model, tile_px=SIDE, **options)
    untiled = Segmenter.load(asked.model, tile_px=2048, **options)
    rows: dict[str, list[dict[str, float]]] = {}
    for path in large:
        raw = read_image(path)
        rgb = normalized(raw, normalize)
        truth = read_grey(folder / "masks" / f"{path.stem}.png") > 0
        grey = {
            name: (255 * (1 - model(raw).probabilities[..., 0])).astype(np.uint8)
            for name, model in (("untiled", untiled), ("ours", ours))
        }
        grey["seed"] = seeds.tiled(rgb, 0, bitwise=True)
        grey["seed, overlap 128"] = seeds.tiled(rgb, 128, bitwise=False)
        for name in ("seed", "seed, overlap 128", "ours"):
            rows.setdefault(name, []).append(score(grey[name], truth, grey["untiled"]))
        if path == large[0]:
            draw(rgb, truth, grey, {name: row[0] for name, row in rows.items()})
    means = {
        name: {key: float(np.mean([row[key] for row in part])) for key in part[0]}
        for name, part in rows.items()
    }
    card = Bundle.open(asked.model).manifest
    result = {
        "model": f"{card.name} {card.version}",
        "images": [path.name for path in large],
        "mean": means,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_section("seeds.md", "seed-tiling", table(result))
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Return the means as Markdown."""
    lines = [
        "| way | Dice | step at tile borders, untiled = 1 | pixels other than untiled |",
        "|---|---|---|---|",
    ]
    for name, row in result["mean"].items():
        share = f"{1e6 * row['other_than_untiled']:.0f} per million"
        lines.append(f"| {name} | {row['dice']:.3f} | {row['seam']:.2f} | {share} |")
    lines += ["", f"`{result['model']}` on {len(result['images'])} images, means."]
    return "\n".join(lines)


def draw(
    rgb: np.ndarray,
    truth: np.ndarray,
    grey: dict[str, np.ndarray],
    rows: dict[str, dict[str, float]],
) -> None:
    """Image with its truth, then each way's result over its difference from the untiled one."""
    shown = rgb.copy()
    outline = cv2.morphologyEx(
        truth.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)
    )
    shown[outline > 0] = (0, 255, 0)
    columns = [[labelled(shown, "image, truth"), labelled(np.full_like(rgb, 255), "")]]
    for name, row in rows.items():
        text = f"{name}: Dice {row['dice']:.3f}, seam {row['seam']:.2f}"
        apart = np.abs(grey[name].astype(int) - grey["untiled"]).clip(0, 255).astype(np.uint8)
        both = [cv2.cvtColor(part, cv2.COLOR_GRAY2RGB) for part in (grey[name], 255 - apart)]
        columns.append([labelled(both[0], text), labelled(both[1], "difference from untiled")])
    sheet = np.hstack([np.vstack(column) for column in columns])
    cv2.imwrite(str(PICTURE), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def labelled(image: np.ndarray, text: str, width: int = 460) -> np.ndarray:
    """Shrink a picture and write a line above it."""
    height = round(image.shape[0] * width / image.shape[1])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    head = np.full((22, width, 3), 255, np.uint8)
    cv2.putText(head, text, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(
        np.vstack([head, small]), 0, 6, 0, 6, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )


if __name__ == "__main__":
    main()
