"""Fill docs/models/nuclei.md from a run, its scores and its bundle.

python bench/model_page.py --run runs/nuclei --scores runs/scores [--model nuclei]
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pages import DOCS, write_section

if TYPE_CHECKING:
    from cellseg.runtime.bundles.bundle import Bundle

PAGE = "models/nuclei.md"
LAST_EPOCHS = 5


def scores_table(folder: Path) -> str:
    """Format ``summary.json`` of `evaluate`."""
    from cellseg.train.scores.evaluate import SourceScore, format_table

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return format_table({name: SourceScore(**score) for name, score in summary.items()})


def variants_table(bundle: Bundle) -> str:
    """Format the manifest's measured quality."""
    lines = [
        "| variant | size | engine | data set | images | Dice | F1 | count error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant in bundle.variants:
        for quality in variant.quality:
            dice = ", ".join(f"{value:.3f}" for value in quality.dice.values())
            lines.append(
                f"| {variant.file} | {variant.bytes / 1e6:.1f} MB | {quality.engine} "
                f"| {quality.dataset} | {quality.images} | {dice} | {quality.object_f1:.3f} "
                f"| {100 * (quality.count_error or 0):.1f} % |"
            )
        if variant.vs_fp32 is not None:
            versus = variant.vs_fp32
            lines.append(
                f"| {variant.file} at worst | | | | | {versus.dice_ratio:.4f} of fp32 "
                f"| {versus.object_f1_ratio:.4f} of fp32 | {100 * (versus.count_drift or 0):.2f} % "
                "drift |"
            )
    return "\n".join(lines)


def training_table(run: Path) -> str:
    """Format the last rows of ``metrics.csv``."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows[-LAST_EPOCHS:]]
    seconds = sum(float(row["seconds"]) for row in rows)
    return (
        "\n".join(lines) + f"\n\n{len(rows)} epochs, {seconds / 60:.0f} minutes on two CPU cores."
    )


def main() -> None:
    """Fill every section that there is material for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    options = parser.parse_args()
    from cellseg.runtime.bundles.bundle import Bundle

    write_section(PAGE, "scores", scores_table(options.scores))
    write_section(PAGE, "variants", variants_table(Bundle.open(options.model)))
    write_section(PAGE, "training", training_table(options.run))
    shutil.copyfile(options.scores / "worst.jpg", DOCS / "images" / "nuclei-worst.jpg")
    shutil.copyfile(options.run / "metrics.png", DOCS / "images" / "nuclei-metrics.png")


if __name__ == "__main__":
    main()
