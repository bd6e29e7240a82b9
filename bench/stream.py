"""Measure a live session against its own engine: latency, overload, cost besides, mosaic.

    python bench/stream.py                                # everything, some minutes
    python bench/stream.py --only overload --seconds 600  # as long as the bar asks for
    python bench/stream.py --only page                    # what a browser that looks on costs
    python bench/stream.py --only mosaic --slide slide.tif

All numbers of a run are ratios to what the engine alone takes in the same run, on the same frames,
opened in the same way. Results go to ``bench/results/stream.json``; a part that is run alone takes
its place among what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from live_cost import measure_cost, measure_page, session_for
from page_viewer import chromium_path
from submit_clock import SubmitClock

from cellseg import Bundle, LiveSession
from cellseg.live.calm import calm_interpreter
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.frame_segmenter import open_for_frames
from cellseg.live.mosaic.mosaic import Mosaic
from cellseg.live.run import LiveOptions, LiveRun
from cellseg.live.sources.slide_camera import SlideCamera, SlideCameraOptions
from cellseg.runtime.infer import infer_slide
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.machine.facts import this_machine
from cellseg.runtime.memory.budget import resident_bytes

RESULTS = Path(__file__).parent / "results" / "stream.json"
DEMO = Path(__file__).parents[1] / "examples" / "cmu-1-small-region.svs"
SIDE_PX = 1024
SECONDS = {"half_rate": 15.0, "overload": 30.0, "cost": 20.0, "page": 20.0, "mosaic": 0.0}
BARS = {
    "half_rate.p99_to_engine_median": 1.5,
    "overload.submit_own_p100_ms": 1.0,
    "overload.submit_wall_p100_ms": 1.0,
    "overload.rss_growth_mb": 20.0,
    "overload.p99_to_engine_median": 2.0,
    "cost.besides_to_engine": 0.10,
    "mosaic.error_median_px": 1.0,
    "mosaic.count_difference": 0.01,
}


def frames_of(slide: Path, count: int = 8) -> list[Any]:
    """Return frames of the slide's middle, copied: real pixels, some of them dense."""
    camera = SlideCamera(slide, SlideCameraOptions((SIDE_PX, SIDE_PX), 0.1, frames=count))
    frames = [frame.array.copy() for frame in camera.frames(Event())]
    camera.close()
    return frames


def engine_alone(options: InferOptions, frames: list[Any], seconds: float) -> dict[str, float]:
    """Run the engine as a session opens it, and nothing else."""
    bundle = Bundle.open(options.model)
    engine = open_for_frames(bundle, options, (SIDE_PX, SIDE_PX))
    out = engine.infer(frames[0])
    walls, until_s = [], time.perf_counter() + seconds
    cpu_s = time.process_time()
    while time.perf_counter() < until_s or len(walls) < 5:
        started_s = time.perf_counter()
        engine.infer(frames[len(walls) % len(frames)], out)
        walls.append(time.perf_counter() - started_s)
    cpu_s = time.process_time() - cpu_s
    engine.close()
    return {
        "engine": f"{engine.name} {engine.precision}",
        "median_ms": float(np.median(walls) * 1e3),
        "p99_ms": float(np.percentile(walls, 99) * 1e3),
        "cpu_ms": cpu_s / len(walls) * 1e3,
        "frames": len(walls),
    }


def stream(
    session: LiveSession, frames: list[Any], period_s: float, seconds: float
) -> tuple[SubmitClock, list[float]]:
    """Submit frames at a fixed pace; return what submits took, and RSS, MB, along the way."""
    clock, sizes, begun_s = SubmitClock(), [], time.perf_counter()
    for number in range(int(seconds / period_s)):
        due_s = begun_s + number * period_s
        time.sleep(max(0.0, due_s - time.perf_counter()))
        frame = Frame(frames[number % len(frames)], FrameMeta.now(number))
        with clock:
            session.submit(frame)
        if number % 50 == 0:
            sizes.append((resident_bytes() or 0) / 1e6)
    return clock, sizes


def half_rate(alone: dict[str, Any], options: InferOptions, frames: Any, seconds: float) -> Any:
    """Frames at half the engine's own rate."""
    with session_for(options) as session:
        session.warm_up(frames[0].shape)
        stream(session, frames, alone["median_ms"] / 1e3 * 2, seconds)
    state = session.snapshot()
    assert state.latency.p50 is not None
    assert state.latency.p99 is not None
    return {
        "p50_ms": state.latency.p50,
        "p99_ms": state.latency.p99,
        "p99_to_engine_median": state.latency.p99 / alone["median_ms"],
        "p99_to_engine_p99": state.latency.p99 / alone["p99_ms"],
        **state.counters.as_dict(),
    }


def overload(alone: dict[str, Any], options: InferOptions, frames: Any, seconds: float) -> Any:
    """Frames at three times the engine's own rate; the oldest are dropped."""
    with session_for(options) as session:
        session.warm_up(frames[0].shape)
        with calm_interpreter():
            clock, sizes = stream(session, frames, alone["median_ms"] / 3e3, seconds)
    state = session.snapshot()
    assert state.latency.p99 is not None
    assert state.latency.p50 is not None
    settled, submits = sizes[len(sizes) // 5 :], clock.report()
    return {
        "seconds": seconds,
        "submit_own_p100_ms": submits.get("own_ms", submits["wall_ms"])["p100"],
        "submit_wall_p100_ms": submits["wall_ms"]["p100"],
        "submits": submits,
        "rss_growth_mb": max(settled) - settled[0],
        "p50_to_engine_median": state.latency.p50 / alone["median_ms"],
        "p99_to_engine_median": state.latency.p99 / alone["median_ms"],
        "is_counted_exactly": state.counters.sent == state.counters.done + state.counters.dropped,
        **state.counters.as_dict(),
    }


def mosaic(options: InferOptions, slide: Path, side_px: int) -> dict[str, Any]:
    """Play a slide with 10 % overlap and 8 px jitter; compare with the slide itself."""
    folder = Path(tempfile.mkdtemp(prefix="cellseg-stream-"))
    try:
        played = SlideCameraOptions((side_px, side_px), 0.1, jitter_px=8.0)
        found = _registration(SlideCamera(slide, played), folder)
        camera = SlideCamera(slide, played)
        settings = {"model": options.model, "engine": options.engine}
        run = LiveRun(
            camera, False, LiveOptions(out=folder / "live"), precision=options.precision, **settings
        )
        with run:
            run.start()
            while not run.wait(1.0):
                pass
            closing = run.finish()
        whole = infer_slide(slide, folder / "infer", options).report["cells"]
    finally:
        shutil.rmtree(folder)
    wanted, got = sum(whole.values()), sum(closing["mosaic"]["cells"].values())
    scanned = sum(closing["mosaic"]["cells_while_scanning"].values())
    return {
        "slide": slide.name,
        "frame_px": side_px,
        **found,
        "cells_of_infer": wanted,
        "cells_of_mosaic": got,
        "cells_while_scanning": scanned,
        "count_difference": abs(got - wanted) / wanted,
        "count_difference_while_scanning": abs(scanned - wanted) / wanted,
    }


def _registration(camera: SlideCamera, folder: Path) -> dict[str, Any]:
    """Register a played slide; the error is what is left after the best common offset."""
    built = Mosaic(folder / "m.ome.tif", camera.mpp)
    for frame in camera.frames(Event()):
        built.add(frame)
    placed = built.finish()
    assert placed is not None
    places = np.array([frame.yx for frame in placed.frames])
    truth = np.array([camera.truth_yx[frame.frame_id] for frame in placed.frames])
    stage = np.array(camera.path_yx)
    built.remove_frames()
    camera.close()
    return {
        "frames": len(places),
        "error_median_px": _median_error(places - truth),
        "error_max_px": float(np.abs(_centred(places - truth)).max()),
        "stage_error_median_px": _median_error(stage - truth),
    }


def _centred(off: Any) -> Any:
    return off - np.median(off, axis=0)


def _median_error(off: Any) -> float:
    return float(np.median(np.hypot(*_centred(off).T)))


def judge(found: dict[str, Any]) -> list[str]:
    """Return a line for each bar: reached or not."""
    lines = []
    for name, bar in BARS.items():
        part, _, key = name.partition(".")
        if part in found:
            value = found[part][key]
            verdict = "reached" if value <= bar else "NOT reached"
            lines.append(f"{name:<36}{value:>10.4f}   bar {bar:<6g} {verdict}")
    return lines


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run what was asked for."""
    options = InferOptions(model=args.model, engine=args.engine, precision=args.precision)
    found: dict[str, Any] = {"machine": this_machine().__dict__, "frame_px": SIDE_PX}
    found["load_1min"] = round(os.getloadavg()[0], 2)
    wanted = tuple(SECONDS) if args.only is None else (args.only,)
    if args.only is None and chromium_path() is None:
        wanted = tuple(name for name in wanted if name != "page")
    frames = frames_of(args.slide)
    if {"half_rate", "overload"} & set(wanted):
        found["engine"] = engine_alone(options, frames, min(args.seconds or 15.0, 15.0))
    for name in wanted:
        seconds = args.seconds or SECONDS[name]
        found[name] = _part(name, found, options, frames, seconds, args)
    return found


def _part(
    name: str,
    found: dict[str, Any],
    options: InferOptions,
    frames: list[Any],
    seconds: float,
    args: argparse.Namespace,
) -> Any:
    if name == "mosaic":
        return mosaic(options, args.slide, args.mosaic_frame)
    if name in ("cost", "page"):
        return (measure_cost if name == "cost" else measure_page)(options, frames, seconds)
    step = half_rate if name == "half_rate" else overload
    return step(found["engine"], options, frames, seconds)


def main() -> None:
    """Parse, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slide", type=Path, default=DEMO)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seconds", type=float, help="of each part; the overload bar asks for 600")
    parser.add_argument("--mosaic-frame", type=int, default=512, help="side of a frame, px")
    parser.add_argument("--only", choices=tuple(SECONDS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    found = measure(args)
    print(json.dumps({key: value for key, value in found.items() if key != "machine"}, indent=1))
    print("\n".join(judge(found)))
    if args.only is not None and args.out.exists():
        found = json.loads(args.out.read_text(encoding="utf-8")) | found
    args.out.write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
