"""Measure throughput by engine and precision: the engine alone beside the whole run.

    python bench/throughput.py demo=examples/cmu-1-small-region.svs@5 made-16k=runs/made.tif@3 \
        -o bench/results/throughput.json --page

``@N`` is the number of rounds for that slide.

The contestants take turns, round after round, so that a slow minute of the machine hits all of
them. "Engine" runs tiles of the slide that lie in memory through the engine, with as many threads
as it wants; "end to end" is `infer` from file to finished files. Megapixels are those of the
working level; for the engine those of the kept cores, so that both count the same pixels and the
engine alone is the floor of the run. ``--page`` puts the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from contest import machine_words, save_record, spread
from measure import Who, engine_alone, whole_run
from pages import write_section

CONTESTANTS = (
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
)


@dataclass
class Row:
    """One slide, engine and precision."""

    slide: str
    engine: str
    precision: str
    tile_px: tuple[int, int] = (0, 0)
    engine_mpx_s: list[float] = field(default_factory=list)
    end_to_end_mpx_s: list[float] = field(default_factory=list)
    infer_share: list[float] = field(default_factory=list)
    peak_rss_mb: float = 0.0


def end_to_end(slide_path: Path, row: Row, model: str) -> None:
    """Run `infer` into a fresh folder and keep its own figures."""
    from cellseg.runtime.jobs.options import InferOptions

    options = InferOptions(
        model=model,
        engine=row.engine,
        precision=row.precision,
        tissue_mask=False,
        tile_px=row.tile_px[0] or None,
    )
    run, _ = whole_run(slide_path, options)
    row.tile_px = tuple(np.atleast_1d(run["plan"]["tile_px"]).tolist())
    row.end_to_end_mpx_s.append(run["throughput_mpx_s"])
    row.infer_share.append(run["stages_s"]["infer"] / run["wall_s"])
    row.peak_rss_mb = max(row.peak_rss_mb, run["peak_rss_mb"])


def format_table(rows: list[Row], machine: str) -> str:
    """Format the rows as Markdown, medians with the spread behind."""
    lines = [
        f"{machine}. Medians (smallest to largest), contestants taking turns; full area, no tissue "
        "mask.",
        "",
        "| slide | engine | precision | rounds | engine alone, MP/s | end to end, MP/s "
        "| of the engine | peak RSS |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        alone, whole = (statistics.median(v) for v in (row.engine_mpx_s, row.end_to_end_mpx_s))
        lines.append(
            f"| {row.slide} | {row.engine} | {row.precision} | {len(row.engine_mpx_s)} "
            f"| {spread(row.engine_mpx_s)} "
            f"| {spread(row.end_to_end_mpx_s)} | {100 * whole / alone:.0f} % "
            f"| {row.peak_rss_mb:.0f} MB |"
        )
    return "\n".join(lines)


def parse_slide(text: str) -> tuple[Path, int]:
    """Split ``FILE@ROUNDS``; three rounds where none are given."""
    file, _, rounds = text.partition("@")
    return Path(file), int(rounds or 3)


def main() -> None:
    """Measure, write JSON, update the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slides", nargs="+", help="NAME=FILE@ROUNDS")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--page", action="store_true", help="fill docs/benchmarks.md")
    options = parser.parse_args()
    slides = {
        name: parse_slide(text) for name, _, text in (s.partition("=") for s in options.slides)
    }
    rows = [Row(name, *who, (options.tile, options.tile)) for name in slides for who in CONTESTANTS]
    for turn in range(max(rounds for _, rounds in slides.values())):
        for row in rows:
            path, rounds = slides[row.slide]
            if turn >= rounds:
                continue
            who = Who(options.model, row.engine, row.precision, row.tile_px[0])
            row.engine_mpx_s.append(engine_alone(path, who, options.seconds))
            end_to_end(path, row, options.model)
            print(row, flush=True)
    save_record(options.out, {"rows": [asdict(row) for row in rows]})
    table = format_table(rows, machine_words())
    print(table)
    if options.page:
        write_section("benchmarks.md", "throughput", table)


if __name__ == "__main__":
    main()
