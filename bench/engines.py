"""Engines alone, by our adapters and by the engines' own programs: what the adapters cost.

    bench/peers/make_env.sh engines
    python bench/engines.py --python runs/peers/env/engines/bin/python --page

Megapixels of input a second on tiles of one size, contestants taking turns. OpenVINO's
benchmark_app runs with its hint for throughput, ONNX Runtime's test tool one call after the other;
both get the network with planar float input (bench/peers/network_files.py), random pixels, and as
many threads as we use. Ours gets bytes as a camera or a slide gives them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from contest import machine_words, save_record, spread
from pages import write_section

from cellseg.bench.process import ProcessFailed, run_process

HERE = Path(__file__).parent
PROGRAMS = {"openvino": "benchmark_app", "onnxruntime": "onnxruntime_test"}


@dataclass
class Row:
    """An engine at a precision, by one program."""

    engine: str
    precision: str
    program: str
    mpx_s: list[float] = field(default_factory=list)
    failure: str | None = None


def ours(row: Row, tile_px: int, seconds: float) -> float:
    """Run our adapter on made tiles; megapixels of input a second."""
    code = (
        "import sys, json, time\n"
        "from contextlib import closing\n"
        "from cellseg.bench.sampling import Amount, sample_beside, warm_up\n"
        "from cellseg.bench.tiles import cells_picture\n"
        "from cellseg.runtime.bundle import Bundle\n"
        "from cellseg.runtime.engines import open_engine\n"
        f"tile = cells_picture({tile_px}, {tile_px})\n"
        f"engine = open_engine(Bundle.open('nuclei'), {row.engine!r}, {row.precision!r}, "
        f"({tile_px}, {tile_px}))\n"
        "with closing(engine):\n"
        "    query = lambda number: engine.infer(tile)\n"
        "    warm_up(query)\n"
        "    start = time.perf_counter()\n"
        f"    done = len(sample_beside(query, Amount({seconds}, 1), engine.concurrency))\n"
        "    took = time.perf_counter() - start\n"
        f"print(json.dumps({{'mpx_s': done * {tile_px**2} / 1e6 / took}}))"
    )
    return float(run_process([sys.executable, "-c", code], 600).said["mpx_s"])


def theirs(row: Row, python: str, model: Path, tile_px: int, threads: int) -> float:
    """Run an engine's own program; megapixels of input a second."""
    request = {
        "slide": "", "model": str(model), "out": "", "threads": threads, "patch_px": tile_px,
        "overlap": 0.0, "precision": row.program, "halo_px": 0,
    }  # fmt: skip
    driver = str(HERE / "peers" / "engine_alone.py")
    return float(run_process([python, driver, json.dumps(request)], 600).said["mpx_s"])


def measure(rows: list[Row], options: argparse.Namespace) -> None:
    """Let the rows take turns."""
    sys.path.insert(0, str(HERE / "peers"))
    from network_files import write_network_files

    files = write_network_files("nuclei", options.work, options.tile)
    models = {"fp32": files.planar_fixed, "int8": files.planar_fixed_int8}
    for _ in range(options.rounds):
        for row in (row for row in rows if row.failure is None):
            try:
                if row.program == "cellseg":
                    row.mpx_s.append(ours(row, options.tile, options.seconds))
                else:
                    model = models[row.precision]
                    row.mpx_s.append(
                        theirs(row, options.python, model, options.tile, options.threads)
                    )
            except ProcessFailed as error:
                row.failure = str(error)
            print(row.engine, row.precision, row.program, row.mpx_s[-1:], flush=True)


def format_table(rows: list[Row]) -> str:
    """Format one row a program; the last column is ours by theirs."""
    medians = {(r.engine, r.precision): statistics.median(r.mpx_s) for r in rows
               if r.program == "cellseg" and r.mpx_s}  # fmt: skip
    lines = ["| engine | precision | by | MP/s of input | cellseg's adapter, of it |"]
    lines.append("|---|---|---|---|---|")
    for row in rows:
        if row.failure or not row.mpx_s:
            failed = (row.failure or "not run").strip().splitlines()[-1]
            lines.append(f"| {row.engine} | {row.precision} | {row.program} | {failed} | - |")
            continue
        own = medians.get((row.engine, row.precision))
        share = "-" if own is None else f"{own / statistics.median(row.mpx_s):.0%}"
        lines.append(
            f"| {row.engine} | {row.precision} | {row.program} | {spread(row.mpx_s)} | {share} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, write JSON, update the page."""
    from cellseg.runtime.machine import usable_cores

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="of the environment 'engines'")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--work", type=Path, default=Path("runs/peers/networks"))
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "engines.json")
    parser.add_argument("--page", action="store_true", help="fill docs/benchmarks.md")
    options = parser.parse_args()
    rows = [
        Row(engine, precision, by)
        for engine, program in PROGRAMS.items()
        for precision in ("fp32", "int8")
        for by in ("cellseg", program)
    ]
    measure(rows, options)
    save_record(options.out, {"tile_px": options.tile, "rows": [asdict(row) for row in rows]})
    table = f"{machine_words()}. Tile {options.tile}.\n\n{format_table(rows)}"
    print(table)
    if options.page:
        write_section("benchmarks.md", "engines", table)


if __name__ == "__main__":
    main()
