"""Values through a table: the kernel beside what serves until it is loaded.

    python bench/value_tables.py [--rounds 30] [-o FILE]

A window of 1024 x 1024 px of three channels, on one thread, in turns; nanoseconds a value.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from contest import save_record, spread

from cellseg.runtime.kernels import LOADED
from cellseg.runtime.view.normalize import apply_lut, build_lut

SIDE_PX = 1024


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "-o", "--out", type=Path, default=Path(__file__).parent / "results" / "value-tables.json"
    )
    options = parser.parse_args()
    record: dict[str, object] = {}
    for dtype, low, high in ((np.uint8, 12, 240), (np.uint16, 90, 4000)):
        image = np.random.default_rng(0).integers(low, high, (SIDE_PX, SIDE_PX, 3), dtype)
        lut = build_lut((low, high), dtype)
        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(options.rounds + 1):
            for loaded, taken in times.items():
                (LOADED.set if loaded else LOADED.clear)()
                started = time.perf_counter()
                apply_lut(image, lut)
                taken.append((time.perf_counter() - started) * 1e9 / image.size)
        without, kernel = times[False][1:], times[True][1:]
        record[np.dtype(dtype).name] = {
            "without_ns": spread(without),
            "kernel_ns": spread(kernel),
            "times_as_fast": round(statistics.median(without) / statistics.median(kernel), 2),
        }
    print(record)
    save_record(options.out, record)


if __name__ == "__main__":
    main()
