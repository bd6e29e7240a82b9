"""Run every TensorRT variant of a bundle on the GPU at hand: whether it is right, and how fast.

    python bench/tensorrt_gpu.py nuclei --tile 1024 -o bench/results/tensorrt-rtx4070.json

Right: the largest and the mean difference from the file's own graph, computed on the CPU as it
stands. Fast: one tile a call, copies to the GPU and back included, by one caller and by as many
as the engine wants; the median of the rounds. The time to build the engine, and to open it again
from the cache, stand beside it. Nothing of this could be run where it was written, without a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()

    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.engines import ENGINES
    from cellseg.runtime.engines.cuda import Cuda

    bundle = Bundle.open(options.model)
    runs = ENGINES["tensorrt"].runs
    rows = {
        precision: measure(bundle, precision, options)
        for precision, needs in runs.items()
        if needs.pick(bundle.variants) is not None
    }
    report = {
        "model_sha256": bundle.sha256,
        "device": asdict(Cuda().device),
        "version": ENGINES["tensorrt"].installed_version,
        "tile_px": options.tile,
        "precisions": rows,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def measure(bundle: Any, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Build, open again, compare and time one variant."""
    from cellseg.runtime.engines import ENGINES, open_engine

    tile_hw = (options.tile, options.tile)
    variant = ENGINES["tensorrt"].runs[precision].pick(bundle.variants)
    with tempfile.TemporaryDirectory() as cache, set_cache(cache):
        start = time.perf_counter()
        open_engine(bundle, "tensorrt", precision, tile_hw).close()
        built = time.perf_counter()
        engine = open_engine(bundle, "tensorrt", precision, tile_hw)  # found in the cache
        opened = time.perf_counter()
        difference = compare(engine, bundle.read_variant(variant.file))
        speeds = {
            f"mpx_s_by_{callers}": statistics.median(
                speed(engine, callers, options.seconds) for _ in range(options.rounds)
            )
            for callers in (1, engine.concurrency)
        }
        engine.close()
    return {"build_s": built - start, "open_s": opened - built, **difference, **speeds}


def set_cache(folder: str) -> Any:
    """Use a cache folder of one's own, so that the first engine is built."""
    from unittest.mock import patch

    return patch.dict("os.environ", {"CELLSEG_CACHE": folder})


def compare(engine: Any, model: bytes) -> dict[str, float]:
    """Compare with the graph computed on the CPU as it stands."""
    from cellseg.export.onnx_graph.builder import INPUT
    from cellseg.export.onnx_graph.tensors import literal_session

    tile = np.random.default_rng(0).integers(0, 256, (*engine.tile_hw, 3), np.uint8)
    (expected,) = literal_session(model).run(None, {INPUT: tile[np.newaxis]})
    difference = np.abs(engine.infer(tile) - expected[0])
    return {
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
    }


def speed(engine: Any, callers: int, seconds: float) -> float:
    """Megapixels a second by some callers at once."""
    tile = np.random.default_rng(0).integers(0, 256, (*engine.tile_hw, 3), np.uint8)
    start = time.perf_counter()

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() - start < seconds:
            engine.infer(tile)
            done += 1
        return done

    with ThreadPoolExecutor(callers) as pool:
        tiles = sum(pool.map(work, range(callers)))
    return tiles * tile.shape[0] * tile.shape[1] / 1e6 / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
