"""What is measured: five scenarios, each from a task to one round.

``tile-single``   one query at a time, as an interactive program does; latency
``tile-offline``  as many tiles in flight as the engine wants; throughput, the floor of a slide
``slide``         `infer` from file to finished files, with the busy seconds of its stages
``stream``        frames at a fixed rate through `Segmenter`; a frame is missed if its result is not
                  there before the next frame, or if it was passed over for a newer one
``cold``          a fresh process, from its start to its first result (the process itself is timed
                  by whoever starts it)
"""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellseg.bench.record import Round
from cellseg.bench.rounds.sampling import Amount, Observation, sample, sample_beside, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellseg.bench.rounds.task import Task
    from cellseg.bench.rounds.tiles import TileSet
    from cellseg.runtime.engines import Engine
    from cellseg.runtime.jobs.options import InferOptions

__all__ = ["SCENARIOS", "run_scenario"]


def run_scenario(task: Task) -> Round:
    """Run one round in this process."""
    return SCENARIOS[task.contestant.scenario](task)


def tile_single(task: Task) -> Round:
    """Ask for ``batch`` tiles at once, and wait for all of them before asking again."""
    tiles, engine = _opened(task)
    batch = task.contestant.batch
    with closing(engine), ThreadPoolExecutor(min(batch, max(1, engine.concurrency))) as pool:

        def query(number: int) -> None:
            first = number * batch
            if batch == 1:
                tiles.run(engine, first)
            else:
                list(pool.map(partial(tiles.run, engine), range(first, first + batch)))

        warmup = warm_up(query)
        seen = Observation()
        times = sample(query, Amount(task.seconds, task.samples))
        return _tile_round(task, tiles, engine, times, batch, warmup, seen)


def tile_offline(task: Task) -> Round:
    """Keep the engine busy: as many callers as it has places, or ``batch``, if that is more."""
    tiles, engine = _opened(task)
    callers = max(engine.concurrency, task.contestant.batch)
    with closing(engine):

        def query(number: int) -> None:
            tiles.run(engine, number)

        warmup = warm_up(query)
        seen = Observation()
        times = sample_beside(query, Amount(task.seconds, task.samples), callers)
        return _tile_round(task, tiles, engine, times, 1, warmup, seen)


def slide(task: Task) -> Round:
    """Run `infer` on the whole slide, once or more, into a fresh folder each."""
    from cellseg.runtime.infer import infer_slide

    options = _options(task)
    reports: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = _slide_path(task, Path(folder))
        _compile_kernels(task, Path(folder))

        def query(number: int) -> None:
            out = Path(folder) / f"run-{number}"
            result = infer_slide(path, out, options)
            reports.append(json.loads((result.folder / "run.json").read_text(encoding="utf-8")))

        seen = Observation()
        times = sample(query, Amount(0.0, task.samples))
        facts = seen.facts()
    plan = reports[0]["plan"]
    tiles = plan["tiles_total"] - plan["tiles_skipped"]
    height, width = plan["tile_hw"]
    return Round(
        turn=task.turn,
        samples_ms=tuple(times),
        kept_px=float(len(times) * plan["width_px"] * plan["height_px"]),
        computed_px=float(len(times) * tiles * height * width),
        mpp=plan["mpp"],
        tile_px=plan["tile_px"],
        threads=reports[0]["engine"]["threads"],
        device=reports[0]["engine"]["device"],
        parts_s=_mean_stages(reports),
        **facts,
    )


def stream(task: Task) -> Round:
    """Offer frames at a fixed rate and take the newest that is there."""
    from cellseg.bench.rounds.frames import play
    from cellseg.bench.rounds.tiles import cells_picture
    from cellseg.runtime.segmenter import Segmenter

    width, height = task.frame_wh
    frames = [cells_picture(height, width, seed) for seed in range(4)]
    with Segmenter.load(**_segmenter_options(task)) as segmenter:

        def query(number: int) -> None:
            segmenter(frames[number % len(frames)])

        warmup = warm_up(query)
        seen = Observation()
        played = play(query, task.fps, Amount(task.seconds, task.samples))
        return Round(
            turn=task.turn,
            samples_ms=played.latencies_ms,
            kept_px=float(len(played.latencies_ms) * height * width),
            computed_px=0.0,  # how many tiles a frame takes is the segmenter's affair
            warmup_calls=warmup.calls,
            warmup_s=warmup.seconds,
            mpp=segmenter.bundle.manifest.mpp,
            stream=played.record(task.fps, (height, width)),
            **seen.facts(),
        )


def cold(task: Task) -> Round:
    """Get a first result, and say how long each step took; imports were the caller's first step."""
    from cellseg.bench.rounds.tiles import cells_picture
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.jobs.job import open_engine_for
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.segmenter import Segmenter

    seen = Observation()
    opened_s = [0.0]

    def timed_open(*arguments: Any) -> Engine:
        before_s = time.perf_counter()
        engine = open_engine_for(*arguments)
        opened_s[0] += time.perf_counter() - before_s
        return engine

    bundle = Bundle.open(task.model_path)
    segmenter = Segmenter(bundle, InferOptions(**_segmenter_options(task)), timed_open)
    bundle_s = time.perf_counter() - seen.started_s
    side = task.contestant.tile_px
    picture = cells_picture(side, side)
    before_s = time.perf_counter()
    segmenter(picture)
    first_s = time.perf_counter() - before_s - opened_s[0]
    parts = {"bundle": bundle_s, "engine": opened_s[0], "first_result": first_s}
    return Round(
        turn=task.turn,
        samples_ms=(),  # filled in by whoever started the process
        kept_px=float(side * side),
        computed_px=float(side * side),
        mpp=bundle.manifest.mpp,
        parts_s=parts,
        **seen.facts(),
    )


SCENARIOS: dict[str, Callable[[Task], Round]] = {
    "tile-single": tile_single,
    "tile-offline": tile_offline,
    "slide": slide,
    "stream": stream,
    "cold": cold,
}


def _opened(task: Task) -> tuple[TileSet, Engine]:
    from cellseg.bench.rounds.tiles import tiles_of
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.engines import open_engine

    who = task.contestant
    bundle = Bundle.open(task.model_path)
    tiles = tiles_of(bundle, who.tile_px, task.slide)
    return tiles, open_engine(bundle, who.engine, who.precision, tiles.tile_hw, who.threads)


def _tile_round(
    task: Task,
    tiles: TileSet,
    engine: Engine,
    times: list[float],
    batch: int,
    warmup: Any,
    seen: Observation,
) -> Round:
    facts = seen.facts()
    done = len(times) * batch
    height, width = tiles.tile_hw
    return Round(
        turn=task.turn,
        samples_ms=tuple(times),
        kept_px=done * tiles.kept_px,
        computed_px=float(done * height * width),
        warmup_calls=warmup.calls,
        warmup_s=warmup.seconds,
        mpp=tiles.mpp,
        tile_px=max(height, width),
        threads=engine.threads,
        device=engine.device,
        **facts,
    )


def _segmenter_options(task: Task) -> dict[str, Any]:
    who = task.contestant
    return {
        "model": task.model_path,
        "engine": who.engine,
        "precision": who.precision,
        "threads": who.threads,
        "tile_px": who.tile_px,
    }


def _options(task: Task) -> InferOptions:
    from cellseg.runtime.jobs.options import InferOptions

    batch = task.contestant.batch
    return InferOptions(
        **_segmenter_options(task), batch=None if batch == 1 else batch, mpp=task.mpp
    )


def _slide_path(task: Task, folder: Path) -> Path:
    from cellseg.bench.rounds.tiles import made_slide

    return made_slide(folder) if task.slide is None else Path(task.slide)


def _compile_kernels(task: Task, folder: Path) -> None:
    """Run a small picture first, so that no compiler is timed with the first slide."""
    from cellseg.bench.rounds.tiles import cells_picture
    from cellseg.runtime.infer import infer_slide
    from cellseg.runtime.slides.slide import ArraySlide

    side = 2 * task.contestant.tile_px
    infer_slide(ArraySlide(cells_picture(side, side), None), folder / "warm", _options(task))


def _mean_stages(reports: list[dict[str, Any]]) -> dict[str, float]:
    names = [name for name, value in reports[0]["stages_s"].items() if value is not None]
    means = {n: sum(r["stages_s"][n] or 0.0 for r in reports) / len(reports) for n in names}
    return means | {"wall": sum(r["wall_s"] for r in reports) / len(reports)}
