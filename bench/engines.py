"""Engines alone, by our adapters and by the engines' own programs: what the adapters cost.

A part of ``bench/peers.py``. Megapixels of input a second on tiles of one size, contestants taking
turns. OpenVINO's benchmark_app runs with its hint for throughput, ONNX Runtime's test tool one call
after the other; both get the network with planar float input (bench/peers/network_files.py), random
pixels, and as many threads as we use. Ours gets bytes as a camera or a slide gives them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellseg.bench.rounds.process import ProcessFailed, run_process

if TYPE_CHECKING:
    import argparse

HERE = Path(__file__).parent
OURS = "cellseg"
PROGRAMS = {
    "openvino": (OURS, "benchmark_app"),
    "onnxruntime": (OURS, "onnxruntime_test"),
    "litert": (OURS,),
}


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
        "from cellseg.bench.rounds.sampling import Amount, sample_beside, warm_up\n"
        "from cellseg.bench.rounds.tiles import cells_picture\n"
        "from cellseg.runtime.bundles.bundle import Bundle\n"
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


def theirs(row: Row, python: str, model: Path, options: argparse.Namespace) -> float:
    """Run an engine's own program; megapixels of input a second."""
    request = {
        "slide": "", "model": str(model), "out": "", "threads": options.threads,
        "patch_px": options.tile, "overlap": 0.0, "precision": row.program, "halo_px": 0,
        "stride_px": 1, "seconds": options.seconds,
    }  # fmt: skip
    driver = str(HERE / "peers" / "engine_alone.py")
    return float(run_process([python, driver, json.dumps(request)], 600).said["mpx_s"])


def measure_engines(python: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let the engines take turns; ``python`` is that of the environment ``engines``."""
    sys.path.insert(0, str(HERE / "peers"))
    from network_files import write_network_files

    files = write_network_files(options.model, options.work / "networks", options.tile)
    models = {"fp32": files.planar_fixed, "int8": files.planar_fixed_int8}
    rows = [
        Row(engine, precision, by)
        for engine, programs in PROGRAMS.items()
        for precision in models
        for by in programs
    ]
    for _ in range(options.rounds):
        for row in (row for row in rows if row.failure is None):
            try:
                if row.program == OURS:
                    row.mpx_s.append(ours(row, options.tile, options.seconds))
                else:
                    row.mpx_s.append(theirs(row, python, models[row.precision], options))
            except ProcessFailed as error:
                row.failure = str(error).strip().splitlines()[-1]
            print(row.engine, row.precision, row.program, row.mpx_s[-1:], flush=True)
    return {"tile_px": options.tile, "rows": [asdict(row) for row in rows]}
