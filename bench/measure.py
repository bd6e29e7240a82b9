"""Parts that several measurements share: engine alone, decoding alone, a whole run."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from cellseg.runtime.options import InferOptions

TILES_IN_MEMORY = 12
BAND_PX = 512


@dataclass(frozen=True)
class Who:
    """Model, engine and tile of a contestant."""

    model: str
    engine: str
    precision: str
    tile_px: int


def open_view(slide_path: Path, model: str) -> Any:
    """Open a slide as the model sees it; the caller closes ``view.slide``."""
    from cellseg.runtime.bundle import Bundle
    from cellseg.runtime.normalize import Normalize, measure_range
    from cellseg.runtime.slide import open_slide
    from cellseg.runtime.working import WorkingView

    manifest = Bundle.open(model).manifest
    spec = manifest.input.normalize
    slide = open_slide(slide_path)
    limits = measure_range(slide, Normalize(spec.kind, spec.low, spec.high))
    return WorkingView(slide, manifest.mpp, limits)


def engine_alone(slide_path: Path, who: Who, seconds: float) -> float:
    """Kept megapixels a second of the engine on tiles in memory."""
    from cellseg.runtime.bundle import Bundle
    from cellseg.runtime.engines import open_engine
    from cellseg.runtime.plan import plan_tiles

    bundle = Bundle.open(who.model)
    view = open_view(slide_path, who.model)
    plan = plan_tiles(view.hw, who.tile_px, bundle.manifest.halo_px, bundle.manifest.stride)
    step = max(1, len(plan) // TILES_IN_MEMORY)
    tiles = plan.tiles[::step][:TILES_IN_MEMORY]
    pixels = [view.read(*tile.read_yx, *plan.tile_hw) for tile in tiles]
    kept = view.hw[0] * view.hw[1] / len(plan) / 1e6
    engine = open_engine(bundle, who.engine, who.precision, plan.tile_hw)
    engine.infer(pixels[0])
    done = _engine_rate(engine, pixels, seconds)
    engine.close()
    view.slide.close()
    return done * kept


def decode_alone(slide_path: Path, model: str, threads: int) -> float:
    """Megapixels a second of reading the whole working level once, band by band."""
    view = open_view(slide_path, model)
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


def _engine_rate(engine: Any, pixels: list[np.ndarray], seconds: float) -> float:
    """Tiles a second with ``engine.concurrency`` threads."""
    counts = [0] * engine.concurrency
    started = time.perf_counter()

    def work(index: int) -> None:
        while time.perf_counter() - started < seconds:
            engine.infer(pixels[(counts[index] + 3 * index) % len(pixels)])
            counts[index] += 1

    took = _run_threads(work, engine.concurrency)
    return sum(counts) / took


def _run_threads(work: Callable[[int], None], count: int) -> float:
    """Run ``work(0 .. count - 1)``, each in a thread; return the seconds that took."""
    started = time.perf_counter()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started
