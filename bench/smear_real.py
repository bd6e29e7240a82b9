"""What a net that learned from synthesized smears does on real images that gave it no cell.

    python bench/smear_real.py --data DATA --model smear.cellseg \
        -o bench/results/smear-real.json --picture docs/images/smear-real.jpg

``DATA`` holds ``smears`` as `data synthesize` made it, ``wbc_tecom`` and ``rbc_smear_points``. Only
images count whose cells went to the test split of ``smears``. Fields of red cells: the part of
the annotated points that lie on each class. Images of a white cell: Dice of all white classes
together with the mask, and the type that most of the mask's pixels got.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cellseg import Segmenter
from cellseg.data.smear.classes import CLASSES, HEALTHY, PASTED
from cellseg.runtime.evaluation.metrics import dice

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIELD_MPP, WHITE_MPP = 0.1875, 0.1575
"""Red cells of the fields are 40 px, 7.5 µm; white cells as `data synthesize` scales them."""
WHITE = [index for index in PASTED if index <= 5]
_PALETTE = np.array([item.color for item in CLASSES], np.uint8)


def main() -> None:
    """Segment, count, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    red, white = held_out(options.data / "smears")
    with Segmenter.load(options.model, precision="fp32") as segmenter:
        fields, red_rows = on_fields(segmenter, options.data / "rbc_smear_points", red)
        cells, white_rows = on_white_cells(segmenter, options.data / "wbc_tecom", white)
    result = {"fields": fields, "white_cells": cells}
    text = json.dumps(result, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    if options.picture is not None:
        sheet = np.vstack([np.hstack(red_rows[:3]), _grid(white_rows, len(red_rows[:3]) * 400)])
        cv2.imwrite(str(options.picture), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


def held_out(smears: Path) -> tuple[list[str], dict[str, str]]:
    """Fields, and white cells with their type, that are in the test split alone."""
    red, white = set(), {}
    for path in sorted((smears / "test" / "boxes").glob("*.json")):
        for item in json.loads(path.read_text(encoding="utf-8"))["objects"]:
            if item["classIdx"] == HEALTHY:
                red.add(item["samplePath"].rpartition("_")[0])
            elif item["classIdx"] in WHITE:
                white[item["samplePath"]] = item["className"]
    return sorted(red), dict(sorted(white.items()))


def on_fields(
    segmenter: Segmenter, root: Path, stems: list[str]
) -> tuple[dict[str, object], list[NDArray[np.uint8]]]:
    """Classes under the points, and where else white cells were seen."""
    under: Counter[str] = Counter()
    pixels = np.zeros(len(CLASSES), np.int64)
    rows = []
    for stem in stems:
        path = next(root.rglob(f"images/{stem}.*"))
        image = _read(path)
        found = segmenter(image, mpp=FIELD_MPP).classes
        table = path.parent.parent / "points" / f"{stem}.csv"
        with table.open(newline="", encoding="utf-8") as file:
            points = [(int(row["x"]), int(row["y"])) for row in csv.DictReader(file)]
        height, width = found.shape
        under.update(
            CLASSES[found[y, x]].name for x, y in points if 0 <= x < width and 0 <= y < height
        )
        pixels += np.bincount(found.ravel(), minlength=len(CLASSES))
        rows.append(np.vstack([_fit(image, 400, 300), _fit(_painted(image, found), 400, 300)]))
    area = {
        item.name: round(float(n / pixels.sum()), 5)
        for item, n in zip(CLASSES, pixels, strict=True)
    }
    return {"images": stems, "points_on": dict(under.most_common()), "area": area}, rows


def on_white_cells(
    segmenter: Segmenter, root: Path, stems: dict[str, str]
) -> tuple[dict[str, object], list[NDArray[np.uint8]]]:
    """Dice of all white classes against the mask, and the type most of its pixels got."""
    overlaps, types, rows = [], [], []
    for stem, kind in stems.items():
        path = next(root.rglob(f"images/{stem}.png"))
        image = _read(path)
        truth = cv2.imread(str(path).replace("/images/", "/masks/"), cv2.IMREAD_UNCHANGED) > 0
        found = segmenter(image, mpp=WHITE_MPP).classes
        overlaps.append(dice(np.isin(found, WHITE), truth))
        counts = np.bincount(found[truth], minlength=len(CLASSES))
        types.append((kind, CLASSES[int(counts.argmax())].name))
        rows.append(np.hstack([_fit(image, 100, 100), _fit(_painted(image, found), 100, 100)]))
    return {
        "images": len(stems),
        "dice_of_white": round(float(np.mean(overlaps)), 4),
        "dice_of_white_median": round(float(np.median(overlaps)), 4),
        "type_right": sum(said == true for true, said in types),
        "types": {f"{true} -> {said}": n for (true, said), n in sorted(Counter(types).items())},
    }, rows


def _read(path: Path) -> NDArray[np.uint8]:
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


def _painted(image: NDArray[np.uint8], classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    mixed = cv2.addWeighted(image, 0.45, _PALETTE[classes], 0.55, 0)
    return np.where(classes[..., None] > 0, mixed, image)


def _fit(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _grid(tiles: list[NDArray[np.uint8]], width: int) -> NDArray[np.uint8]:
    columns = width // tiles[0].shape[1]
    blank = np.full_like(tiles[0], 255)
    padded = tiles + [blank] * (-len(tiles) % columns)
    rows = [np.hstack(padded[i : i + columns]) for i in range(0, len(padded), columns)]
    return np.vstack(rows)


if __name__ == "__main__":
    main()
