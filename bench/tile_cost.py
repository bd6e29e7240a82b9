"""What a tile costs by the int8 file of each bundle: whole, and without what nobody looks at.

    python bench/tile_cost.py before=old.cellseg after=cellseg/models/nuclei.cellseg

Processor seconds of one tile on one thread, all taking turns, the least of the rounds (others only
add to it). Beside them fp32 by ONNX Runtime and by OpenVINO, of the last bundle, as what int8 is
measured against; and whether trimming changed a byte of what is looked at.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from contest import save_record
from halo import core

from cellseg import Bundle
from cellseg.bench.rounds.tiles import cells_picture
from cellseg.runtime.engines import open_engine
from cellseg.runtime.engines.trim import NOTHING, Sides, infer_seen

if TYPE_CHECKING:
    from cellseg.runtime.engines import Engine


def contestants(bundles: dict[str, Bundle], side_px: int) -> dict[str, tuple[Engine, Sides]]:
    """Open every engine once; each with what of a tile it need not compute."""
    hw, found = (side_px, side_px), {}
    for name, bundle in bundles.items():
        unseen = Sides(*(bundle.manifest.halo_px,) * 4)
        whole = open_engine(bundle, "openvino", "int8", hw, 1, one_at_a_time=True)
        found[f"{name} int8, whole"] = (whole, NOTHING)
        found[f"{name} int8, trimmed"] = (open_engine(bundle, "openvino", "int8", hw, 1), unseen)
    for engine in ("openvino", "onnxruntime"):
        found[f"{engine} fp32, whole"] = (
            open_engine(bundle, engine, "fp32", hw, 1, one_at_a_time=True),
            NOTHING,
        )
    return found


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", metavar="NAME=BUNDLE")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=10)
    results = Path(__file__).parent / "results" / "tile-cost.json"
    parser.add_argument("-o", "--out", type=Path, default=results)
    options = parser.parse_args()
    bundles = {name: Bundle.open(path) for name, path in (b.split("=") for b in options.bundles)}
    engines = contestants(bundles, options.tile)
    tile = cells_picture(options.tile, options.tile)
    took: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(options.rounds + 1):
        for name, (engine, unseen) in engines.items():
            started_s = time.process_time()
            infer_seen(engine, tile, None, unseen)
            took[name].append(time.process_time() - started_s)
    found: dict[str, Any] = {name: round(min(values[1:]), 4) for name, values in took.items()}
    same = {name: same_bytes(engines, name, bundle, tile) for name, bundle in bundles.items()}
    record = {"tile_px": options.tile, "cpu_s": found, "trimming_keeps_every_byte": same}
    save_record(options.out, record)
    print(json.dumps(record, indent=2))


def same_bytes(
    engines: dict[str, tuple[Engine, Sides]], name: str, bundle: Bundle, tile: Any
) -> bool:
    """Whether the whole and the trimmed tile agree on what is looked at."""
    unseen = Sides(*(bundle.manifest.halo_px,) * 4)
    ways = (engines[f"{name} int8, {way}"] for way in ("whole", "trimmed"))
    return bool(np.array_equal(*(core(engine, tile, out, unseen) for engine, out in ways)))


if __name__ == "__main__":
    main()
