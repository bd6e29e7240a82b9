"""Parts that several measurements share: engine alone, decoding alone, a whole run."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellseg.runtime.jobs.options import InferOptions

BAND_PX = 512


@dataclass(frozen=True)
class Who:
    """Model, engine and tile of a contestant."""

    model: str
    engine: str
    precision: str
    tile_px: int


def engine_alone(slide_path: Path, who: Who, seconds: float) -> float:
    """Kept megapixels a second of the engine on tiles in memory."""
    from cellseg.bench.rounds.sampling import Amount, sample_beside, warm_up
    from cellseg.bench.rounds.tiles import tiles_of
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.engines import open_engine

    bundle = Bundle.open(who.model)
    found = tiles_of(bundle, who.tile_px, str(slide_path), is_even=True)
    with closing(open_engine(bundle, who.engine, who.precision, found.tile_hw)) as engine:

        def query(number: int) -> None:
            found.run(engine, number)

        warm_up(query)
        started_s = time.perf_counter()
        done = len(sample_beside(query, Amount(seconds, 1), engine.concurrency))
        return done * found.kept_px / 1e6 / (time.perf_counter() - started_s)


def decode_alone(slide_path: Path, model: str, threads: int) -> float:
    """Megapixels a second of reading the whole working level once, band by band."""
    from cellseg.bench.rounds.tiles import open_view
    from cellseg.runtime.bundles.bundle import Bundle

    view = open_view(slide_path, Bundle.open(model))
    height, width = view.hw
    tops = iter(range(0, height, BAND_PX))
    lock = threading.Lock()

    def work(_: int) -> None:
        while True:
            with lock:
                top = next(tops, None)
            if top is None:
                return
            view.read(top, 0, min(BAND_PX, height - top), width)

    seconds = _run_threads(work, threads)
    view.slide.close()
    return height * width / 1e6 / seconds


def whole_run(
    slide_path: Path, options: InferOptions, look: Callable[[Path], Any] | None = None
) -> tuple[dict[str, Any], Any]:
    """Run `infer` into a fresh folder; return its ``run.json`` and what ``look`` saw there."""
    from cellseg.runtime.infer import infer_slide

    folder = Path(tempfile.mkdtemp())
    try:
        result = infer_slide(slide_path, folder, options)
        run: dict[str, Any] = json.loads((result.folder / "run.json").read_text())
        return run, look(result.folder) if look else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_threads(work: Callable[[int], None], count: int) -> float:
    """Run ``work(0 .. count - 1)``, each in a thread; return the seconds that took."""
    started = time.perf_counter()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started
