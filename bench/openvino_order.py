"""What it brings that OpenVINO's graph is put in order: a tile with each step of it left out.

    python bench/openvino_order.py [--model nuclei] [--tile 1024] [--rounds 10] [-o FILE]

Tiles inside a slide, as a run has them, on all cores; contestants take turns of a second. Whether
what is looked at stays the same to the last bit is said beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from contest import save_record, spread
from halo import core

from cellseg import Bundle, CellsegError
from cellseg.bench.rounds.tiles import cells_picture
from cellseg.runtime.engines import open_engine
from cellseg.runtime.engines.measure import measure_speed
from cellseg.runtime.engines.trim import Sides

if TYPE_CHECKING:
    from cellseg.runtime.engines import Engine

STEPS = ("float_first", "round_once", "spread_by_convolution", "spread_last")
WAYS = {"all": (), **{f"without {name}": (name,) for name in STEPS}, "none": STEPS}
PRECISIONS = ("fp32", "bf16", "int8")
TURN_S = 1.0


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "-o", "--out", type=Path, default=Path(__file__).parent / "results" / "openvino-order.json"
    )
    options = parser.parse_args()
    bundle = Bundle.open(options.model)
    found = {name: measure(bundle, name, options.tile, options.rounds) for name in PRECISIONS}
    save_record(
        options.out,
        {
            "model": f"{bundle.manifest.name} {bundle.manifest.version}",
            "tile_px": options.tile,
            "precisions": found,
        },
    )
    print(json.dumps(found, indent=2))


def measure(bundle: Bundle, precision: str, tile_px: int, rounds: int) -> dict[str, Any]:
    """Let all ways of one precision take turns."""
    tile = cells_picture(tile_px, tile_px)
    unseen = Sides(*(bundle.manifest.halo_px,) * 4)
    try:
        engines = {name: opened(bundle, precision, tile_px, left) for name, left in WAYS.items()}
    except CellsegError as error:  # bf16 where the processor has none
        return {"left_out": str(error)}
    first, *others = (core(engine, tile, unseen, unseen) for engine in engines.values())
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, turn in measure_speed(engines, 1, TURN_S, unseen).items():
            rates[name].append(turn.px_per_s / 1e6)
    for engine in engines.values():
        engine.close()
    middle = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "mp_per_s": {name: spread(values) for name, values in rates.items()},
        "of_all": {name: round(value / middle["all"], 3) for name, value in middle.items()},
        "same_to_the_bit": all(np.array_equal(first, other) for other in others),
    }


def opened(bundle: Bundle, precision: str, tile_px: int, left_out: tuple[str, ...]) -> Engine:
    """Open an engine without some of the steps; what was compiled with them is not looked at."""
    with ExitStack() as stack:
        for name in (*left_out, "recall_compiled", "store_compiled"):
            where = f"cellseg.runtime.engines.openvino.{name}"
            stack.enter_context(mock.patch(where, return_value=None))
        return open_engine(bundle, "openvino", precision, (tile_px, tile_px))


if __name__ == "__main__":
    main()
