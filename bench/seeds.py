"""Take all five seeds' recipes from a data folder to a bundle and its pictures.

    python bench/seeds.py --data DATA                 a few minutes a seed: it shows the way
    python bench/seeds.py --data DATA --only smear    one of them
    python bench/seeds.py --data DATA --full          the seeds' own widths, rates and epochs: days
    python bench/seeds.py --page                      fill docs/seeds.md from the last results

``DATA`` holds the stand-ins: the seeds' own data may not be passed on. Smears are synthesized from
``wbc_tecom`` and ``rbc_smear_points``. Every step is a command that a user would type, and printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pages import write_section

RESULTS = Path(__file__).parent / "results" / "seeds.json"
PAGE = "seeds.md"
SMEARS = ("wbc_tecom", "rbc_smear_points")
SHOWN = 3
SHORT = {"fit.valid_images": 8, "fit.learning_rate": 1e-3, "fit.epochs": 2, "watch.count": 2}
"""Settings of a run that only shows the way; the seeds' own rates are for many more steps."""
SCALED = {"model.input_range": "0..1"}
"""The seeds' raw grey values take more steps than that to learn anything from."""


@dataclass(frozen=True)
class Seed:
    """A recipe, and what it is run on."""

    number: str
    recipe: str
    needs: tuple[str, ...]
    images: str
    """Folder of images to infer, below the data."""
    made: dict[str, int] = field(default_factory=dict)
    """Name of the smears to synthesize, and the side of their images."""
    short: dict[str, Any] = field(default_factory=dict)


SEEDS = (
    Seed("000", "blood-cell", SMEARS, "fields/test/images", {"fields": 512},
         {"model.base_filters": 4, "fit.steps_per_epoch": 30} | SCALED),
    Seed("001", "deepcell", ("dsb2018_nuclei",), "dsb2018_nuclei/test/images", {},
         {"model.base_filters": 4, "fit.steps_per_epoch": 20}),
    Seed("002", "leukemia", ("wbc_tecom",), "wbc_tecom/test/images", {},
         {"model.base_filters": 8, "fit.steps_per_epoch": 40}),
    Seed("003", "smear", SMEARS, "smears/test/images", {"smears": 224},
         {"model.base_filters": 8, "fit.batch": 8, "fit.steps_per_epoch": 40}),
    Seed("004", "skin-cancer", ("dermoscopy_large",), "dermoscopy_large/images", {},
         {"model.base_filters": 4, "fit.steps_per_epoch": 30} | SCALED),
)  # fmt: skip


def main() -> None:
    """Run what is asked for, write the results, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("seeds-out"))
    parser.add_argument("--only", nargs="*", metavar="RECIPE")
    parser.add_argument("--smears", type=int, default=40, help="training images to synthesize")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--steps", type=int, help="steps of an epoch")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--page", action="store_true")
    asked = parser.parse_args()
    if not asked.page:
        if asked.data is None:
            parser.error("--data is the folder of the stand-ins; see docs/seeds.md")
        for seed in SEEDS:
            if seed.recipe in (asked.only or [seed.recipe]):
                keep(run(seed, asked))
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = table(list(kept.values()))
    write_section(PAGE, "seeds", text)
    print(text)


def keep(row: dict[str, Any]) -> None:
    """Put a row among those of earlier runs; a seed that was skipped keeps its old one."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if "skipped" not in row or row["seed"] not in kept:
        kept[row["seed"]] = row
    text = json.dumps(dict(sorted(kept.items())), indent=2)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def run(seed: Seed, asked: argparse.Namespace) -> dict[str, Any]:
    """Take one seed from its data to pictures; a row of the table."""
    missing = [name for name in seed.needs if not (asked.data / name).is_dir()]
    if missing:
        print(f"{seed.recipe}: skipped: {', '.join(missing)} is not in {asked.data}")
        return {"seed": seed.number, "recipe": seed.recipe, "skipped": ", ".join(missing)}
    started = time.perf_counter()
    work = asked.work / (f"{seed.recipe}-full" if asked.full else seed.recipe)
    for name, side in seed.made.items():
        synthesize(asked, asked.work / name, side)
    data = asked.work if seed.made else asked.data
    given = {"fit.epochs": asked.epochs, "fit.steps_per_epoch": asked.steps}
    given = {key: value for key, value in given.items() if value is not None}
    settings = settings_of(given if asked.full else SHORT | seed.short | given)
    resumed = ["--resume"] if (work / "run" / "recipe.json").exists() else []
    cli("train", seed.recipe, "--data", data, "-o", work / "run", *settings, *resumed)
    cli("evaluate", seed.recipe, "--data", data, "--model", work / "run")
    bundle = work / f"{seed.recipe}.cellseg"
    cli("export", work / "run", "-o", bundle, "--precision", "fp32")
    images = sorted((data / seed.images).iterdir())[:SHOWN]
    cli("infer", *images, "--model", bundle, "-o", work / "infer", "--restart")
    minutes = (time.perf_counter() - started) / 60
    return measured(seed, work, bundle) | {"minutes": round(minutes, 1)}


def synthesize(asked: argparse.Namespace, out: Path, side: int) -> None:
    """Make smears, unless they are there."""
    if not out.is_dir():
        white, red = (asked.data / name for name in SMEARS)
        cli("data", "synthesize", "-o", out, "--white", white, "--red", red,
            "--size", side, "--count", asked.smears, "--workers", 1)  # fmt: skip


def settings_of(settings: dict[str, Any]) -> list[str]:
    """Turn settings into options."""
    return [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]


def cli(*words: object) -> None:
    """Run a command as a user would."""
    line = [str(word) for word in words]
    print("cellseg-cli", *line, flush=True)
    subprocess.run([sys.executable, "-m", "cellseg", *line], check=True)


def measured(seed: Seed, work: Path, bundle: Path) -> dict[str, Any]:
    """Read what the commands left."""
    recipe = json.loads((work / "run" / "recipe.json").read_text(encoding="utf-8"))
    card = json.loads((work / "run" / "model.json").read_text(encoding="utf-8"))
    scores = json.loads((work / "run" / "evaluation-test" / "summary.json").read_text("utf-8"))
    epochs = len((work / "run" / "metrics.csv").read_text(encoding="utf-8").splitlines()) - 1
    steps = epochs * recipe["fit"]["steps_per_epoch"]
    return {
        "seed": seed.number,
        "recipe": seed.recipe,
        "stand_in": "synthesized smears" if seed.made else ", ".join(seed.needs),
        "base_filters": recipe["model"]["base_filters"],
        "parameters": card["provenance"]["parameters"],
        "steps": steps,
        "crops": steps * recipe["fit"]["batch"],
        "test_images": scores["plain"]["images"],
        "test_dice": scores["plain"]["mean_dice"],
        "bundle_mb": round(bundle.stat().st_size / 1e6, 1),
        "fit_px": card["input"]["fit_px"],
        "pictures": (work / "infer").as_posix(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| seed | recipe | stand-in | parameters | steps | crops | test images | test Dice | "
        "bundle | pictures |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "skipped" in row:
            why = f"skipped, not there: {row['skipped']}"
            lines.append(f"| {row['seed']} | `{row['recipe']}` | {why} |" + " |" * 7)
            continue
        lines.append(
            f"| {row['seed']} | `{row['recipe']}` | {row['stand_in']} | "
            f"{row['parameters']:,} | {row['steps']} | {row['crops']} | {row['test_images']} | "
            f"{row['test_dice']:.3f} | {row['bundle_mb']} MB | `{row['pictures']}` |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
