"""What a tile costs with its halo computed to the end, and with what nobody looks at left out.

    python bench/halo.py

Processor seconds of one tile of OpenVINO on one thread, the two taking turns, the least of the
rounds (others only add to it); and whether what is looked at is the same to the last bit. The whole
tile is run as camera frames are, by a graph without cuts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from contest import save_record

from cellseg import Bundle
from cellseg.bench.rounds.tiles import cells_picture
from cellseg.runtime.engines import open_engine
from cellseg.runtime.engines.trim import NOTHING, Sides, infer_seen

if TYPE_CHECKING:
    from cellseg.runtime.engines import Engine


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "-o", "--out", type=Path, default=Path(__file__).parent / "results" / "halo.json"
    )
    options = parser.parse_args()
    bundle = Bundle.open(options.model)
    found = {name: measure(bundle, name, options) for name in ("fp32", "int8")}
    save_record(options.out, {"tile_px": options.tile, "precisions": found})
    print(json.dumps(found, indent=2))


def measure(bundle: Bundle, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time both ways of one precision."""
    halo_px, tile_hw = bundle.manifest.halo_px, (options.tile, options.tile)
    tile = cells_picture(*tile_hw)
    unseen = Sides(*(halo_px,) * 4)
    engines = {
        "whole": open_engine(bundle, "openvino", precision, tile_hw, 1, one_at_a_time=True),
        "trimmed": open_engine(bundle, "openvino", precision, tile_hw, 1),
    }
    ways = {"whole": NOTHING, "trimmed": unseen}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(options.rounds + 1):
        for name, engine in engines.items():
            started_s = time.process_time()
            infer_seen(engine, tile, None, ways[name])
            seconds[name].append(time.process_time() - started_s)
    least = {name: min(values[1:]) for name, values in seconds.items()}
    same = bool(np.array_equal(*(core(engines[name], tile, ways[name], unseen) for name in ways)))
    for engine in engines.values():
        engine.close()
    saved = 1 - least["trimmed"] / least["whole"]
    return {**{f"{name}_s": value for name, value in least.items()}, "saved": saved, "same": same}


def core(engine: Engine, tile: Any, left_out: Sides, unseen: Sides) -> Any:
    """Return what is looked at, whatever the engine left out."""
    channels, (top, left) = infer_seen(engine, tile, None, left_out)
    height, width = unseen.within(engine.tile_hw)
    return channels[unseen.top - top :, unseen.left - left :][:height, :width]


if __name__ == "__main__":
    main()
