"""What each layer of a tile costs in OpenVINO, and in which precision it runs: fp32 beside int8.

    python bench/openvino_layers.py [--model nuclei] [--tile 1024] [-o FILE]

OpenVINO's own clock of its layers, on one thread, the least of the rounds: wall time, so only a
quiet machine's numbers mean something. Layers of less than a tenth of a millisecond are left out.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import openvino as ov
from contest import save_record

from cellseg import Bundle
from cellseg.bench.rounds.tiles import cells_picture

FILES = {"fp32": "model.fp32.onnx", "int8": "model.int8.u8s8.onnx"}
LEAST_MS = 0.1


def layers(data: bytes, tile_px: int, rounds: int) -> list[dict[str, Any]]:
    """Time the layers of one file, in the order they run."""
    core = ov.Core()
    graph = core.read_model(data)
    graph.reshape({graph.input(0): [1, tile_px, tile_px, 3]})
    request = core.compile_model(
        graph,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERF_COUNT": True,
        },
    ).create_infer_request()
    tile = cells_picture(tile_px, tile_px)[None]
    took: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for _ in range(rounds + 1):
        request.infer({0: tile})
        for item in request.profiling_info:
            key = (item.node_name, item.node_type, item.exec_type)
            took[key].append(1e3 * item.real_time.total_seconds())
    return [
        {"layer": name, "type": kind, "runs_as": runs_as, "ms": round(min(values), 2)}
        for (name, kind, runs_as), values in took.items()
        if min(values) >= LEAST_MS
    ]


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=10)
    results = Path(__file__).parent / "results" / "openvino-layers.json"
    parser.add_argument("-o", "--out", type=Path, default=results)
    options = parser.parse_args()
    bundle = Bundle.open(options.model)
    found = {
        name: layers(bundle.read_variant(file), options.tile, options.rounds)
        for name, file in FILES.items()
    }
    save_record(options.out, {"tile_px": options.tile, "layers": found})
    print(json.dumps({name: sum(row["ms"] for row in rows) for name, rows in found.items()}))
    for name, rows in found.items():
        for row in rows:
            print(
                f"{name} {row['ms']:8.2f} ms  {row['runs_as']:24s} {row['type']:12s} {row['layer']}"
            )


if __name__ == "__main__":
    main()
