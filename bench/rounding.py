"""What an int8 file keeps with its weights rounded together, and each to the nearest.

    python bench/source_folders.py nuclei --data DATA -o runs/sources
    python bench/rounding.py runs/sources [--model nuclei] [-o FILE]

The float graph of a bundle is quantized by two ways of ranges, all convolutions int8, and held
against itself on the validation images, as the export does (OpenVINO). The noise is that at the
last convolution, on eight representative tiles.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import onnx
from contest import save_record

from cellseg.export.images.export_images import read_images
from cellseg.export.judging.judging import Judging
from cellseg.export.judging.quality import versus_fp32
from cellseg.export.options import ExportOptions
from cellseg.export.precisions.ranges import collect_distributions
from cellseg.export.precisions.rounding import round_weights, second_moments
from cellseg.export.precisions.sqnr import measure_noise
from cellseg.export.precisions.u8s8 import last_convolutions, quantize_u8s8
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.evaluation.quality import ModelRunner

METHODS = ("percentile", "minmax")
MOMENT_TILES, NOISE_TILES = 48, 8


def measure(bundle: Bundle, sources: Path, threads: int) -> list[dict[str, Any]]:
    """Score the graph of a bundle, rounded either way."""
    card = bundle.manifest
    names = sorted(path.name for path in (sources / "valid").iterdir())
    images = read_images(
        ExportOptions(
            run=bundle.path,
            output=bundle.path,
            representative=tuple(sources / "train" / name for name in names),
            select=tuple((name, sources / "valid" / name) for name in names),
        ),
        card,
    )
    data = bundle.read_variant("model.fp32.onnx")
    graph, tiles = onnx.load_from_string(data), images.tiles
    judging = Judging(card, images.select)
    known = judging.scores(ModelRunner(data, card, "openvino", "fp32", threads))
    distributions = collect_distributions(graph, tiles)
    moments = second_moments(graph, tiles[:: -(-len(tiles) // MOMENT_TILES)])
    (last,) = last_convolutions(graph)
    rows = []
    for method in METHODS:
        nearest = quantize_u8s8(graph, distributions, method)
        together = round_weights(graph, nearest, moments)
        for rounded, model in (("to the nearest", nearest), ("together", together)):
            runner = ModelRunner(model.SerializeToString(), card, "openvino", "int8", threads)
            kept = versus_fp32(judging.scores(runner), known)
            runner.close()
            noise = measure_noise(graph, model, tiles[:NOISE_TILES])
            (through_db,) = (item.through_db for item in noise if item.layer == last)
            rows.append(
                {"ranges": method, "rounded": rounded, **kept.model_dump(), "noise_db": through_db}
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path, help="laid out by bench/source_folders.py")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "-o", "--out", type=Path, default=Path(__file__).parent / "results" / "rounding.json"
    )
    options = parser.parse_args()
    bundle = Bundle.open(options.model)
    rows = measure(bundle, options.sources, options.threads)
    model = {"name": bundle.manifest.name, "version": bundle.manifest.version}
    save_record(options.out, {"model": model, "rows": rows})


if __name__ == "__main__":
    main()
