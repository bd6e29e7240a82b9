"""What a session costs besides its engine, in seconds of a core: bare, and with a page open.

A frame through a whole session (submit, queue, future, result) and the same frame through that
session's engine alone take turns. Seconds of a core, not of the clock: other programs stretch that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg import Bundle, LiveSession
from cellseg.live.frame_segmenter import open_for_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.run.engine_shelf import OpenEngine

__all__ = ["measure_cost", "measure_page", "session_for"]


def measure_cost(options: InferOptions, frames: list[Any], seconds: float) -> dict[str, Any]:
    """Return milliseconds of a core a frame: the engine's, and what comes besides."""
    engine_ms, whole_ms = [], []
    engine = open_for_frames(Bundle.open(options.model), options, frames[0].shape[:2])
    out = engine.infer(frames[0])
    with session_for(options, lambda *_: engine) as session:
        session.warm_up(frames[0].shape)
        until_s = time.perf_counter() + seconds
        while time.perf_counter() < until_s or len(whole_ms) < 8:
            frame = frames[len(whole_ms) % len(frames)]
            engine_ms.append(_cpu_ms(lambda frame=frame: engine.infer(frame, out)))
            whole_ms.append(_cpu_ms(lambda frame=frame: session.submit(frame).result()))
    alone = float(np.median(engine_ms))
    besides = float(np.median(np.subtract(whole_ms, engine_ms)))
    return {
        "frames": len(whole_ms),
        "engine_cpu_ms": alone,
        "besides_cpu_ms": besides,
        "besides_to_engine": besides / alone,
    }


def measure_page(options: InferOptions, frames: list[Any], seconds: float) -> dict[str, Any]:
    """Return what a page costs while a browser shows it, at a quarter of what the engine can do."""
    from page_viewer import viewer

    from cellseg.live.server import LocalServer

    with session_for(options) as session, LocalServer(session, port=0) as server:
        session.warm_up(frames[0].shape)
        period_s = 4 * _wall_s(session, frames)
        without = _play(session, frames, period_s, seconds)
        with viewer(server.url) as page:
            _play(session, frames, period_s, 3.0)  # until the painter is compiled
            before = session.snapshot().counters.done
            seen = _play(session, frames, period_s, seconds)
            page.wait_for_function(f"Number(document.getElementById('done').textContent)>{before}")
    return {
        "frames_per_s": 1 / period_s,
        "without_browser": without,
        "with_browser": seen,
        "page_cpu_ms": seen["cpu_ms"] - without["cpu_ms"],
    }


def _cpu_ms(run: Callable[[], Any]) -> float:
    begun_s = time.process_time()
    run()
    return (time.process_time() - begun_s) * 1e3


def _wall_s(session: LiveSession, frames: list[Any]) -> float:
    begun_s = time.perf_counter()
    for frame in frames:
        session.submit(frame).result()
    return (time.perf_counter() - begun_s) / len(frames)


def _play(
    session: LiveSession, frames: list[Any], period_s: float, seconds: float
) -> dict[str, float]:
    """Submit frames at a pace; return milliseconds of a core a frame, and their latency."""
    latency_ms: list[float] = []
    stop = session.on_result(lambda result: latency_ms.append(result.latency.total_ms))
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    count = max(3, int(seconds / period_s))
    for number in range(count):
        time.sleep(max(0.0, begun_s + number * period_s - time.perf_counter()))
        session.submit(frames[number % len(frames)])
    session.wait_idle()
    cpu_ms = (time.process_time() - begun_cpu_s) * 1e3 / count
    stop()
    p50, p99 = (float(np.percentile(latency_ms, q)) for q in (50, 99))
    return {"frames": count, "cpu_ms": cpu_ms, "p50_ms": p50, "p99_ms": p99}


def session_for(options: InferOptions, open_engine: OpenEngine | None = None) -> LiveSession:
    """Open a session with the options of a run."""
    return LiveSession(
        options.model,
        engine=options.engine,
        precision=options.precision,
        threads=options.threads,
        mpp=options.mpp,
        open_engine=open_engine,
    )
