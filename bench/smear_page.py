"""Fill docs/models/smear.md from a run, its scores and what it did on real fields.

    cellseg-cli evaluate smear-cells --data DATA --model RUN -o scores
    python bench/smear_real.py --data DATA --model smear.cellseg -o bench/results/smear-real.json
    python bench/smear_page.py --scores scores/summary.json --run RUN

Both are kept in ``bench/results``; without them the page is filled from there.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from pages import write_section

PAGE = "models/smear.md"
RESULTS = Path(__file__).parent / "results"
WANTED = 0.90
MISTAKES = 5


def scores_table(plain: dict[str, Any]) -> str:
    """Format the classes' scores, each mean of Dice by its name."""
    lines = [
        f"{plain['images']} images. Wanted: mean foreground Dice {WANTED:.2f}. Reached: "
        f"**{plain['mean_dice_pooled']:.3f}** over the pixels of all images (the classes that the "
        f"split shows), {plain['mean_dice']:.3f} as the mean of images.",
        "",
        "| class | images with it | Dice, all pixels | Dice, mean of images | of those with it "
        "| boundary F1 |",
        "|---|---|---|---|---|---|",
    ]
    keys = ("dice_pooled", "dice", "dice_where_shown", "boundary_f1")
    for name, row in list(plain["classes"].items())[1:]:
        numbers = " | ".join("-" if row[key] is None else f"{row[key]:.3f}" for key in keys)
        lines.append(f"| {name} | {row['images_shown']} | {numbers} |")
    return "\n".join([*lines, "", mistakes(plain)])


def mistakes(plain: dict[str, Any]) -> str:
    """Name the classes that are most often taken for another one."""
    names = list(plain["classes"])
    shares = [
        (count / sum(row), names[true], names[found])
        for true, row in enumerate(plain["confusion"])
        for found, count in enumerate(row)
        if 0 not in (true, found) and true != found and sum(row)
    ]
    worst = sorted(shares, reverse=True)[:MISTAKES]
    parts = [f"{share:.0%} of {true} called {found}" for share, true, found in worst]
    return f"Most mistaken, of a class's pixels: {'; '.join(parts)}."


def real_text(real: dict[str, Any]) -> str:
    """Say in a few lines what it did on real images."""
    fields, cells = real["fields"], real["white_cells"]
    points = sum(fields["points_on"].values())
    on = ", ".join(f"{n} on {name}" for name, n in fields["points_on"].items())
    seen = {k: v for k, v in fields["area"].items() if k not in ("background", "healthy red cell")}
    areas = ", ".join(f"{name} {share:.2%}" for name, share in seen.items() if share >= 0.0001)
    types = ", ".join(f"{name} ({n})" for name, n in cells["types"].items())
    return "\n".join(
        [
            f"- {len(fields['images'])} fields of red cells: of {points} annotated points {on}. "
            f"Of the area: {areas or 'nothing else'}.",
            f"- {cells['images']} whole images of a white cell, its true surroundings around it: "
            f"{cells['type_right']} of {cells['images']} types right. White classes together reach "
            f"Dice {cells['dice_of_white']:.2f} with the mask (median "
            f"{cells['dice_of_white_median']:.2f}).",
            f"- True type -> said type: {types}.",
        ]
    )


def training_text(rows: list[dict[str, str]]) -> str:
    """Say how far validation got."""
    least = min(rows, key=lambda row: float(row["val_loss"]))
    return (
        f"{rows[-1]['epoch']} epochs; least validation loss {float(least['val_loss']):.3f} in "
        f"epoch {least['epoch']}, {float(rows[-1]['val_loss']):.3f} in the last one."
    )


def main() -> None:
    """Keep what is given, fill the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    test, epochs = RESULTS / "smear-test.json", RESULTS / "smear-training.csv"
    if options.scores is not None:
        test.write_text(options.scores.read_text(encoding="utf-8"), encoding="utf-8")
    if options.run is not None:
        epochs.write_text((options.run / "metrics.csv").read_text("utf-8"), encoding="utf-8")
    plain = json.loads(test.read_text(encoding="utf-8"))["plain"]
    write_section(PAGE, "scores", scores_table(plain))
    write_section(PAGE, "real", real_text(json.loads((RESULTS / "smear-real.json").read_text())))
    with epochs.open(newline="", encoding="utf-8") as file:
        write_section(PAGE, "training", training_text(list(csv.DictReader(file))))


if __name__ == "__main__":
    main()
