"""How much better small nuclei are told apart in an enlarged image, by the size that was found.

    python bench/enlarged.py --data DATA

Images of the training and validation splits that state no pixel size are segmented as they are and
as if their pixels were larger (``--mpp``), so that the model sees them enlarged. They are grouped
by the median diameter of the nuclei found as they are: what a user can see, too. The labels of
most were seen in training, at all these sizes; what is compared is one image at several.
Prints a Markdown table and keeps it in bench/results/enlarged.json.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from contest import save_record
from pages import write_section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellseg.runtime.evaluation.metrics import Matches
    from cellseg.runtime.segmenter import Segmenter
    from cellseg.train.images.cell_crops import LabelledImage

RESULT = Path(__file__).parent / "results" / "enlarged.json"
TIMES = (1.0, 1.4, 2.0)
BOUNDS_PX = (0, 10, 12, 14, 16, 20, 30, 1000)
SOURCES = ("dsb-fluorescence", "dsb-he", "kromp")
MOST_PX = 1_500_000  # of an image that is enlarged twice


def main() -> None:
    """Measure, print, keep."""
    from cellseg.runtime.segmenter import Segmenter
    from cellseg.train.images.cell_crops import load_source
    from cellseg.train.recipes.recipe import load_recipe

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--page", action="store_true", help="fill docs/models/nuclei.md")
    asked = parser.parse_args()
    recipe = load_recipe("nuclei")
    found: dict[tuple[str, int], list[list[Matches]]] = defaultdict(list)
    with Segmenter.load("nuclei", engine="openvino", precision="fp32") as segmenter:
        for source in recipe.sources:
            if source.name not in SOURCES:
                continue
            for split in ("train", "valid"):
                for item in load_source(source, asked.data, split, recipe.normalize):
                    if item.labels.size <= MOST_PX:
                        group, matches = matched(segmenter, item)
                        found[source.name, group].append(matches)
    rows = [row_of(*key, found[key]) for key in sorted(found) if key[1] >= 0]
    save_record(RESULT, {"times": TIMES, "rows": rows})
    print(text := table(rows))
    if asked.page:
        write_section("models/nuclei.md", "enlarged", text)


def matched(segmenter: Segmenter, item: LabelledImage) -> tuple[int, list[Matches]]:
    """Return the group of an image (-1: nothing was found), and its matches at every size."""
    from cellseg.runtime.evaluation.metrics import match_objects

    mpp = segmenter.bundle.manifest.mpp
    assert mpp is not None
    labels = [segmenter(item.image, mpp=mpp * times).labels for times in TIMES]
    areas = np.bincount(np.ravel(labels[0]))[1:]
    diameter = np.median(np.sqrt(areas * 4 / np.pi)) if areas.size else -1.0
    group = int(np.searchsorted(BOUNDS_PX, diameter, side="right")) - 1
    return group, [match_objects(each, item.labels) for each in labels]


def row_of(source: str, group: int, images: list[list[Matches]]) -> dict[str, Any]:
    """Pool the images of one group."""
    f1 = [total_of(matches).f1 for matches in zip(*images, strict=True)]
    nuclei = sum(matches[0].truth for matches in images)
    low, high = BOUNDS_PX[group : group + 2]
    return {
        "source": source, "from_px": low, "to_px": high, "images": len(images), "nuclei": nuclei,
        "f1": f1,
    }  # fmt: skip


def total_of(matches: Sequence[Matches]) -> Matches:
    """Pool the objects of several images."""
    from cellseg.runtime.evaluation.metrics import Matches

    return Matches(
        sum(each.true_positives for each in matches),
        sum(each.false_positives for each in matches),
        sum(each.false_negatives for each in matches),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows as Markdown."""
    sizes = " | ".join(f"F1, {times:g} times" for times in TIMES)
    lines = [
        f"| source | median diameter, px | images | nuclei | {sizes} |",
        "|---|---|---|---|" + "---|" * len(TIMES),
    ]
    for row in rows:
        last = row["to_px"] == BOUNDS_PX[-1]
        size = f"{row['from_px']} and more" if last else f"{row['from_px']} to {row['to_px']}"
        scores = " | ".join(f"{value:.3f}" for value in row["f1"])
        lines.append(f"| {row['source']} | {size} | {row['images']} | {row['nuclei']} | {scores} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
