"""Live frames of one stain in grey and painted in colours: cells found, and what each costs.

    python bench/live_painted.py DATA/dsb2018_nuclei/test/images
    python bench/live_painted.py DATA/dsb2018_nuclei/test/images --engine onnxruntime --threads 1

Grey fluorescence images of a folder become frames, as they are and in each colour. ``show_cpu_ms``
is what it takes to bring a frame of a megapixel before the model (counting samples, settling range
and channel, looking values up), in seconds of a core. Results go to
``bench/results/live-painted.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from live_cost import session_for

from cellseg import Bundle
from cellseg.live.frame_view import FrameView
from cellseg.live.stream_intensities import StreamIntensities
from cellseg.runtime.jobs.job import prepare
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.machine.facts import this_machine
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.view.normalize import Normalize

RESULTS = Path(__file__).parent / "results" / "live-painted.json"
SIDE_PX = 1024
PAINTS = {
    "grey": (1, 1, 1),
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "cyan": (0, 0.9, 1),
}


def fluorescence(folder: Path, count: int) -> list[Any]:
    """Read images that are grey and dark, the first ``count`` by name."""
    found = []
    for path in sorted(folder.glob("*.png")):
        image = cv2.imread(str(path))
        is_grey = (image == image[..., :1]).all()
        if is_grey and np.median(image) < 64:
            found.append(np.ascontiguousarray(image[..., 0]))
    return found[:count]


def painted(grey: Any, paint: tuple[float, ...]) -> Any:
    """Return a grey image in a colour, RGB."""
    return np.rint(grey[..., np.newaxis] * np.array(paint)).astype(np.uint8)


def cells_in(frames: list[Any], options: InferOptions) -> int:
    """Count the cells that a session finds."""
    with session_for(options) as session:
        for frame in frames:
            session.submit(frame).result()
        return sum(session.snapshot().counts.values())


def show_cpu_ms(frames: list[Any], options: InferOptions, rounds: int) -> float:
    """Return what bringing frames before the model takes: the median, milliseconds of a core."""
    bundle = Bundle.open(options.model)
    asked = bundle.manifest.input.normalize
    dtype = frames[0].dtype
    stream = StreamIntensities(Normalize(asked.kind, asked.low, asked.high), dtype, 256)
    view = FrameView(frames[0].shape, dtype, prepare(ArraySlide(frames[0]), bundle, options))
    taken = []
    for number in range(rounds):
        begun_s = time.thread_time()
        view.show(frames[number % len(frames)], stream.add)
        taken.append(time.thread_time() - begun_s)
    return float(np.median(taken) * 1e3)


def main() -> None:
    """Run all, print a line a colour, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="folder of PNGs")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    options = InferOptions(engine=asked.engine, precision=asked.precision, threads=asked.threads)
    greys = fluorescence(asked.images, asked.count)
    found: dict[str, Any] = {}
    for name, paint in PAINTS.items():
        frames = [painted(grey, paint) for grey in greys]
        large = [painted(cv2.resize(grey, (SIDE_PX, SIDE_PX)), paint) for grey in greys[:4]]
        cells, cost_ms = cells_in(frames, options), show_cpu_ms(large, options, asked.rounds)
        found[name] = {"cells": cells, "show_cpu_ms": cost_ms}
        print(f"{name:<6} {cells:>5} cells {cost_ms:>7.2f} ms of a core to show a megapixel")
    facts = this_machine()
    machine = f"{facts.cpu}, {facts.cores} cores"
    report = {"frames": len(greys), "paints": found, "machine": machine}
    asked.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
