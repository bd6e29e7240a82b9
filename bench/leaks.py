"""How well and how fast overlapping crops of one field are found.

    python bench/leaks.py FOLDER... [--count 1000] [--size 256] [--quality 0]

Crops are cut from all images below the folders: pairs that share 25, 50 or 75 % of their width, the
second one turned and mirrored at random, and single ones. What is found is compared with what was
cut. Seconds are processor time of one thread, which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cellseg.data.form.pairs import IMAGE_SUFFIXES
from cellseg.data.splits.overlaps import overlapping_pairs, points_of

RESULT = Path(__file__).parent / "results" / "leaks.json"
SHARES = (0.25, 0.5, 0.75)
LEAST_STD = 8.0


@dataclass(frozen=True)
class Crop:
    """A crop and where it was cut."""

    image: np.ndarray
    field: int
    x: int
    y: int


def read_fields(folders: list[Path], size: int) -> list[np.ndarray]:
    """All images that are large enough for two crops side by side."""
    paths = sorted(p for f in folders for p in f.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    images = (cv2.imread(str(p)) for p in paths if not {"masks", "labels"} & set(p.parts))
    return [i for i in images if i is not None and min(i.shape[:2]) >= 2 * size]


def saved(image: np.ndarray, quality: int) -> np.ndarray:
    """Return the image as a JPEG file gives it back; as it is with quality 0."""
    image = np.ascontiguousarray(image)
    if quality == 0:
        return image
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def cut(fields: list[np.ndarray], count: int, size: int, quality: int) -> tuple[list[Crop], dict]:
    """Crops, and the pairs among them that were cut to overlap, by their share."""
    rng = np.random.default_rng(0)
    crops: list[Crop] = []
    wanted: dict[tuple[int, int], float] = {}
    while len(crops) < count:
        index, share = int(rng.integers(len(fields))), SHARES[len(wanted) % 3]
        field, step = fields[index], round(size * (1 - share))
        x = int(rng.integers(field.shape[1] - size - step + 1))
        y = int(rng.integers(field.shape[0] - size + 1))
        one, two = (
            field[y : y + size, x : x + size],
            field[y : y + size, x + step : x + step + size],
        )
        common = one[:, step:]
        if common.std() < LEAST_STD:
            continue  # nothing to be recognized
        two = np.rot90(two, int(rng.integers(4)))[:, :: int(rng.choice((-1, 1)))]
        wanted[len(crops), len(crops) + 1] = share
        crops += [Crop(saved(one, quality), index, x, y)]
        crops += [Crop(saved(two, quality), index, x + step, y)]
    return crops, wanted


def overlap(one: Crop, two: Crop, size: int) -> bool:
    """Tell whether two crops share pixels."""
    return one.field == two.field and abs(one.x - two.x) < size and abs(one.y - two.y) < size


def main() -> None:
    """Print and keep what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--quality", type=int, default=0)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    fields = read_fields(arguments.folders, arguments.size)
    crops, wanted = cut(fields, arguments.count, arguments.size, arguments.quality)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    points = [points_of(crop.image) for crop in crops]
    middle = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    pairs = overlapping_pairs(points, lambda index: crops[index].image)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    found = {(pair.one, pair.two) for pair in pairs}
    cut_to = Counter(wanted.values())
    hit = Counter(share for pair, share in wanted.items() if pair in found)
    result = {
        "fields": len(fields), "crops": len(crops), "size_px": arguments.size,
        "jpeg_quality": arguments.quality or None,
        "found": {f"{share:.0%}": f"{hit[share]}/{cut_to[share]}" for share in SHARES},
        "pairs_found": len(found),
        "pairs_that_share_nothing": sum(
            not overlap(crops[a], crops[b], arguments.size) for a, b in found
        ),
        "user_s": {"points": round(middle - before, 1), "pairs": round(after - middle, 1)},
    }  # fmt: skip
    name = f"{len(crops)}x{arguments.size}-q{arguments.quality}"
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps(kept | {name: result}, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
