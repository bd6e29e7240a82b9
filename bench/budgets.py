"""Run a slide under smaller and smaller budgets: what is planned, and what is held.

    python bench/budgets.py made8k.tif --page
    python bench/budgets.py made8k.tif --budgets 640M,1G --variants "onnxruntime fp32,litert int8"

Each run is a process of its own, as a user starts it, with the files that `infer` writes by
default; its peak is what the system counted for that process. The first run of each variant is not
in the table: it finds the size of the tiles, and what the network takes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from contest import save_record
from memory import cellseg
from pages import write_section

BUDGETS = "600M,640M,800M,1G,1.5G"
VARIANTS = "openvino fp32,openvino int8,onnxruntime fp32,litert int8"
RESULT = Path(__file__).parent / "results" / "budgets.json"


def run(slide: Path, variant: str, budget: str) -> dict[str, Any]:
    """Run the slide once; of a budget that is refused, what was said."""
    engine, precision = variant.split()
    row: dict[str, Any] = {"variant": variant, "budget": budget}
    words = ["--engine", engine, "--precision", precision, "--max-ram", budget]
    with tempfile.TemporaryDirectory() as out:
        try:
            peak_mib, _ = cellseg("infer", str(slide), "-o", out, *words)
        except SystemExit as refusal:
            return {**row, "refused": str(refusal).split("error: ")[-1].splitlines()[0]}
        folder = next(Path(out).iterdir())
        report = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        log = (folder / "run.log").read_text(encoding="utf-8")
    return {
        **row,
        "tile_hw": report["plan"]["tile_hw"],
        "planned_mib": int(log.rsplit("about ", 1)[1].split()[0]),
        "peak_mib": round(peak_mib),
    }


def table(record: dict[str, Any]) -> str:
    """Return the runs as Markdown."""
    machine = record["machine"]
    lines = [
        f"{machine['cpu']} ({', '.join(machine['cpu_flags'])}), {machine['cores']} cores. "
        f"{record['slide']}, one run each.",
        "",
        "| engine | budget | tile, px | planned, MiB | peak, MiB |",
        "|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        if "refused" in row:
            lines.append(f"| {row['variant']} | {row['budget']} | {row['refused']} | | |")
            continue
        tile = "x".join(map(str, row["tile_hw"]))
        lines.append(
            f"| {row['variant']} | {row['budget']} | {tile} | {row['planned_mib']} | "
            f"{row['peak_mib']} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--budgets", default=BUDGETS, help="divided by commas")
    parser.add_argument("--variants", default=VARIANTS, help="engine and precision")
    parser.add_argument("-o", "--out", type=Path, default=RESULT)
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md")
    arguments = parser.parse_args()
    rows = []
    for variant in arguments.variants.split(","):
        run(arguments.slide, variant, arguments.budgets.rsplit(",", 1)[-1])
        for budget in arguments.budgets.split(","):
            rows.append(run(arguments.slide, variant, budget))
            print(rows[-1], flush=True)
    save_record(arguments.out, {"slide": arguments.slide.name, "rows": rows})
    record = json.loads(arguments.out.read_text(encoding="utf-8"))
    print(table(record))
    if arguments.page:
        write_section("benchmarks.md", "budgets", table(record))


if __name__ == "__main__":
    main()
