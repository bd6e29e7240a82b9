"""Real rounds with a real (tiny) network, and the slowed engine that a comparison must catch."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellseg.bench.record import Contestant, Round
from cellseg.bench.reports.compare import compare_reports
from cellseg.bench.reports.condition import parse_conditions
from cellseg.bench.reports.rows import Basis, make_row
from cellseg.bench.rounds.frames import play
from cellseg.bench.rounds.sampling import Amount, sample_beside
from cellseg.bench.rounds.scenarios import run_scenario
from cellseg.bench.rounds.task import Task
from cellseg.runtime.engines import ENGINES
from tests.bench.made_reports import made_report
from tests.bundles import make_bundle


def run(model: Path, scenario: str, turn: int = 0, **changes: Any) -> Round:
    who = Contestant(
        scenario=scenario, model="tiny", engine="onnxruntime", precision="fp32", tile_px=64,
        batch=1, threads=1,
    )  # fmt: skip
    fields: dict[str, Any] = {
        "contestant": who, "model_path": str(model), "slide": None, "mpp": None, "turn": turn,
        "seconds": 0.05, "samples": 10, "fps": 200.0, "frame_wh": (64, 64),
    }  # fmt: skip
    return run_scenario(Task(**fields | changes))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.cellseg"
    make_bundle(path)
    return path


def test_a_single_tile_counts_its_kept_pixels(model: Path) -> None:
    found = run(model, "tile-single")
    count = len(found.samples_ms)
    assert count >= 10
    assert found.kept_px == count * (64 - 2 * 4) ** 2
    assert found.computed_px == count * 64 * 64
    assert found.warmup_calls >= 3


def test_callers_are_at_work_at_once() -> None:
    together = threading.Barrier(3, timeout=30)  # nobody gets past it before three are there
    times = sample_beside(lambda number: together.wait(), Amount(0.0, 1), 3)
    assert len(times) == 3


def test_offline_tiles_are_run_by_as_many_callers_as_asked(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def beside(query: Any, amount: Amount, callers: int) -> list[float]:
        asked.append(callers)
        return sample_beside(query, amount, callers)

    monkeypatch.setattr("cellseg.bench.rounds.scenarios.sample_beside", beside)
    who = Contestant(
        scenario="tile-offline", model="tiny", engine="onnxruntime", precision="fp32", tile_px=64,
        batch=3, threads=1,
    )  # fmt: skip
    found = run(model, "tile-offline", contestant=who)
    assert asked == [3]
    assert len(found.samples_ms) >= 10


def test_a_slide_tells_its_stages(model: Path, tmp_path: Path) -> None:
    import tifffile

    from cellseg.bench.rounds.tiles import cells_picture

    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, cells_picture(192, 256), photometric="rgb", tile=(64, 64))
    found = run(model, "slide", slide=str(path), samples=1)
    assert found.kept_px == 192 * 256
    assert {"read", "infer", "stitch", "write", "wall"} <= set(found.parts_s)


def test_frames_that_come_too_fast_are_missed(model: Path) -> None:
    found = run(model, "stream", fps=100_000.0)
    assert found.stream is not None
    assert found.stream.misses == found.stream.dropped + found.stream.late > 0
    assert found.stream.processed == len(found.samples_ms)


def test_a_slow_consumer_gets_the_newest_frame() -> None:
    import time

    seen: list[int] = []

    def slow(frame: int) -> None:
        seen.append(frame)
        time.sleep(0.03)

    played = play(slow, 100.0, Amount(0.0, 4))
    assert len(seen) == len(set(seen)) == 4
    assert played.dropped == seen[-1] + 1 - 4
    assert played.late == 4


def test_a_start_says_how_long_its_steps_took(model: Path) -> None:
    found = run(model, "cold")
    assert set(found.parts_s) == {"bundle", "engine", "first_result"}
    assert all(seconds > 0 for seconds in found.parts_s.values())


def test_an_engine_with_a_sleep_a_tile_is_caught(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rounds that others disturbed are not compared; that is not what is looked at here.
    monkeypatch.setattr("cellseg.bench.reports.rows.doubts", lambda states, medians: [])

    def measured() -> Any:
        rounds = [run(model, "tile-single", turn=turn) for turn in range(4)]
        who = Contestant(
            scenario="tile-single", model="tiny", engine="onnxruntime", precision="fp32",
            tile_px=64, batch=1, threads=1,
        )  # fmt: skip
        return made_report(make_row(who, "done", rounds, Basis(None, None, {}, ())))

    before = measured()
    slowed = replace(
        ENGINES["onnxruntime"], module="tests.bench.slow_engine", class_name="SlowEngine"
    )
    monkeypatch.setitem(ENGINES, "onnxruntime", slowed)
    after = measured()
    asked = parse_conditions(["p50>+5%"])
    assert len(compare_reports(before, after).regressions(asked)) == 1
    assert compare_reports(after, before).regressions(asked) == []
