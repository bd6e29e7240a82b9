"""What is said of a data set's measurements: what may go wrong, numbers for programs, files."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.stats.contents import ImageStats
from cellseg.data.stats.picture import draw_stats
from cellseg.data.stats.recipe_fit import mismatches, seen_diameters

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.data.stats.contents import Stats
    from cellseg.data.stats.recipe_fit import RecipeNeeds

__all__ = ["findings", "stats_json", "write_stats"]


def findings(
    stats: Stats, field_px: int | None = None, needs: RecipeNeeds | None = None
) -> list[str]:
    """Say what may go wrong in training, in words.

    Parameters
    ----------
    stats : Stats
        What was measured.
    field_px : int, optional
        How far a model sees to each side.
    needs : RecipeNeeds, optional
        What a recipe asks for.
    """
    found = [f"no image shows class {name!r}" for name, n in stats.class_images.items() if n == 0]
    weights = stats.class_weights()
    rare = {name: weight for name, weight in weights.items() if weight > 1000}
    found += [f"class {n!r} is one pixel in {w:,.0f}" for n, w in rare.items()]
    sizes = Counter((item.width_px, item.height_px) for item in stats.images)
    if len(sizes) > 1:
        found.append(f"images have {len(sizes)} different sizes")
    if field_px is not None and stats.diameters_px.size:
        share = float((stats.diameters_px > field_px).mean())
        if share > 0:
            found.append(
                f"{share:.1%} of the objects are larger than the {field_px} px that the model "
                "sees to each side: reduce the images, or take a deeper network"
            )
    empty = sum(item.objects == 0 for item in stats.images)
    found += [f"{empty} images show no object"] * bool(empty)
    return found if needs is None else found + mismatches(stats, needs)


def stats_json(
    stats: Stats, field_px: int | None = None, needs: RecipeNeeds | None = None
) -> dict[str, Any]:
    """As `--json` prints it; ``recipe`` is null without one."""
    has_objects = bool(stats.diameters_px.size)
    diameters = np.percentile(stats.diameters_px, (5, 50, 95)).tolist() if has_objects else []
    return {
        "images": dict(Counter(item.split for item in stats.images)),
        "objects": sum(item.objects for item in stats.images),
        "class_pixels": dict(stats.class_pixels),
        "class_images": dict(stats.class_images),
        "class_weights": stats.class_weights(),
        "diameter_px": dict(
            zip(("p5", "p50", "p95"), [round(v, 1) for v in diameters], strict=False)
        ),
        "recipe": None if needs is None else asdict(needs),
        "notes": findings(stats, field_px, needs),
    }


def write_stats(
    stats: Stats, folder: Path, field_px: int | None = None, needs: RecipeNeeds | None = None
) -> None:
    """Write ``stats.csv`` (a row an image), ``notes.csv``, ``stats.json`` and ``stats.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "stats.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ImageStats.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(asdict(row) for row in stats.images)
    notes = findings(stats, field_px, needs)
    with (folder / "notes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["note"], *([text] for text in notes)])
    summary = json.dumps(stats_json(stats, field_px, needs), indent=2)
    (folder / "stats.json").write_text(summary + "\n", encoding="utf-8")
    if needs is not None:  # objects as its network meets them
        stats = replace(stats, diameters_px=seen_diameters(stats, needs))
        field_px = field_px if field_px is not None else needs.reach_px
    draw_stats(stats, folder / "stats.png", field_px, notes)
