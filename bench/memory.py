"""Measure what a run holds at most on slides of 1, 4 and 16 gigapixels under one budget.

    python bench/memory.py --images DATA/dsb2018_nuclei/train --slides runs/memory
    python bench/memory.py --images DATA/dsb2018_nuclei/train --scale 64     # a rehearsal

Slides are made once and kept in the folder ``--slides``. Each run is a process of its own, as a
user starts it; its peak is what the system counted for that process. The slides hold about the same
area of tissue, so the last is mostly background, and the runs take about as long.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

GIGAPIXELS = (1, 4, 16)
TISSUE_GIGAPIXELS = 0.4
MOST_APART = 0.10


@dataclass(frozen=True)
class Peak:
    """One run."""

    gigapixels: float
    side_px: int
    tissue: float
    peak_mib: float
    """Largest resident set of the process, as the system counted it."""

    planned_mib: float | None
    """What the run said beforehand."""

    tile_px: int
    engine: str
    wall_s: float


def side_of(gigapixels: float) -> int:
    """Side of a square slide, a multiple of 1024 (of 256, if it is small)."""
    side = math.sqrt(gigapixels * 2**30)
    step = 1024 if side >= 8192 else 256
    return round(side / step) * step


def slide_of(folder: Path, images: Path, side: int, tissue: float) -> Path:
    """Make a slide, unless it is there."""
    path = folder / f"memory-{side}-{tissue:.4f}.tif"
    if not path.exists():
        partial = path.with_suffix(".part.tif")
        size, part = f"{side}x{side}", f"{tissue:.4f}"
        cellseg("data", "make-slide", str(partial), "--images", str(images), "--size", size,
                "--tissue", part)  # fmt: skip
        partial.rename(path)
        for beside in folder.glob("*.part.*"):  # the truth is not needed here
            beside.unlink()
    return path


def cellseg(*words: str) -> tuple[float, str]:
    """Run a command of ours; return its peak in MiB and what it said on stderr."""
    command = [sys.executable, "-m", "cellseg", *words]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{text}")
    return usage.ru_maxrss / 1024, text


def measure(slide: Path, gigapixels: float, tissue: float, arguments: argparse.Namespace) -> Peak:
    """Run a slide from its file to finished files."""
    out = Path(tempfile.mkdtemp(prefix="memory-", dir=slide.parent))
    try:
        words = ["infer", str(slide), "-o", str(out), "--max-ram", arguments.max_ram]
        peak_mib, _ = cellseg(*words, *arguments.options.split())
        folder = next(out.iterdir())
        report: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        log = (folder / "run.log").read_text(encoding="utf-8")
    finally:
        shutil.rmtree(out)
    planned = [line.split("about ")[1].split()[0] for line in log.splitlines() if "about " in line]
    return Peak(
        gigapixels=gigapixels,
        side_px=report["input"]["width_px"],
        tissue=tissue,
        peak_mib=round(peak_mib, 1),
        planned_mib=float(planned[-1]) if planned else None,
        tile_px=report["plan"]["tile_px"],
        engine=f"{report['engine']['name']} {report['engine']['precision']}",
        wall_s=report["wall_s"],
    )


def table(peaks: list[Peak]) -> str:
    """Return the peaks as Markdown."""
    lines = ["| gigapixels | side, px | tissue | tile, px | engine | peak, MiB | planned, MiB |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines += [
        f"| {p.gigapixels:g} | {p.side_px} | {p.tissue:.1%} | {p.tile_px} | {p.engine} | "
        f"{p.peak_mib:.0f} | {p.planned_mib or 0:.0f} |"
        for p in peaks
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="labelled images")
    parser.add_argument("--slides", type=Path, default=Path("runs/memory"), help="kept slides")
    parser.add_argument("--max-ram", default="1.5G")
    parser.add_argument("--options", default="", help="further words for infer")
    parser.add_argument("--scale", type=float, default=1, help="pixels are divided by this")
    parser.add_argument("-o", "--out", type=Path, default=Path("bench/results/memory.json"))
    arguments = parser.parse_args()
    arguments.slides.mkdir(parents=True, exist_ok=True)
    peaks = []
    for nominal in GIGAPIXELS:
        gigapixels = nominal / arguments.scale
        tissue = TISSUE_GIGAPIXELS / nominal
        slide = slide_of(arguments.slides, arguments.images, side_of(gigapixels), tissue)
        peaks.append(measure(slide, gigapixels, tissue, arguments))
        print(table(peaks[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    values = [peak.peak_mib for peak in peaks]
    apart = max(values) / min(values) - 1
    print(f"{table(peaks)}\n\nlargest {max(values):.0f} MiB, apart by {apart:.1%}")
    facts = {"max_ram": arguments.max_ram, "scale": arguments.scale, "apart": round(apart, 4)}
    facts["runs"] = [asdict(peak) for peak in peaks]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if apart > MOST_APART:
        raise SystemExit(f"apart by more than {MOST_APART:.0%}")


if __name__ == "__main__":
    main()
