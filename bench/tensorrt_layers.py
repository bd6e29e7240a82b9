"""Build TensorRT engines of the shipped models, without a GPU, and count what is int8 in them.

python bench/tensorrt_layers.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from contest import save_record

ROOT = Path(__file__).parents[1]
MODELS = ("cellseg/models/nuclei.cellseg", "examples/models/blood.cellseg")


def main() -> None:
    """Build, count, write."""
    from cellseg.export.targets.tensorrt import build_engines
    from cellseg.runtime.bundles.bundle import Bundle

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compute-capability", nargs="+", default=["8.6", "8.9", "12.0"])
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument(
        "-o", "--out", type=Path, default=ROOT / "bench" / "results" / "tensorrt-layers.json"
    )
    options = parser.parse_args()
    engines = []
    for model in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            bundle = Bundle.open(ROOT / model)
            for engine in build_engines(
                bundle, options.compute_capability, options.tile, Path(folder)
            ):
                engines.append({
                    "model": bundle.manifest.name,
                    "precision": engine.precision,
                    "compute_capability": engine.capability,
                    "convolutions": len(engine.report.convolutions),
                    "in_int8": len(engine.report.int8),
                    "int8_lost": list(engine.lost),
                    "reformats": len(engine.report.reformats),
                })  # fmt: skip
                print(engines[-1], flush=True)
    save_record(options.out, {"tile_px": options.tile, "engines": engines})


if __name__ == "__main__":
    main()
