"""The matrix runs in turns; what dies is named, what was measured is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellseg.bench.options import BenchOptions
from cellseg.bench.record import Contestant, Peak, Report
from cellseg.bench.rounds import worker
from cellseg.bench.rounds.runner import run_bench
from cellseg.bench.rounds.task import Task
from cellseg.errors import BenchError, SlideError
from tests.bundles import make_bundle

WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
PEAKS = {"fp32": Peak(gflop_s=100.0, by="numpy"), "int8": None}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    monkeypatch.setattr("cellseg.bench.rounds.runner.measure_peaks", lambda threads: PEAKS)
    make_bundle(tmp_path / "tiny.cellseg", mpp=0.5)

    def call(notify: Any = None, **changes: Any) -> Report:
        fields: dict[str, Any] = {
            "models": (str(tmp_path / "tiny.cellseg"),),
            "engines": ("openvino", "onnxruntime"),
            "precisions": ("fp32",),
            "scenarios": ("tile-single",),
            "rounds": 4,
        }
        return run_bench(BenchOptions(**fields | changes), notify, WORKER)

    return call


def test_an_engine_that_dies_is_named_and_the_rest_goes_on(run: Callable[..., Report]) -> None:
    report = run()
    alive, dead = report.rows
    assert (alive.status, len(alive.rounds)) == ("done", 4)
    assert (dead.status, len(dead.rounds)) == ("failed", 1)
    assert dead.failure == "round 2: ended by SIGKILL: a last word"
    assert report.status == "done"


def test_the_order_of_turns_is_reversed_every_other_round(run: Callable[..., Report]) -> None:
    places = [
        [r.place for r in row.rounds] for row in run(engines=("openvino",), batches=(1, 2)).rows
    ]
    assert places == [[0, 1, 0, 1], [1, 0, 1, 0]]


def test_a_machine_that_sleeps_or_throttles_makes_the_run_invalid(
    run: Callable[..., Report],
) -> None:
    report = run(engines=("openvino",), batches=(1, 3))
    awake, disturbed = report.rows
    assert (awake.valid, disturbed.valid) == (True, False)
    assert disturbed.invalid_reasons == (
        "the machine slept for 120 s",
        "the processor throttled for heat (8 events)",
    )
    assert not report.valid
    assert report.invalid_reasons[0].endswith("batch3/threads-all: the machine slept for 120 s")
    assert len(disturbed.rounds) == 4  # shown all the same


def test_ctrl_c_keeps_the_rounds_that_are_done(run: Callable[..., Report]) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    report = run(stop, engines=("openvino",), batches=(1, 2))
    assert report.status == "interrupted"
    assert [len(row.rounds) for row in report.rows] == [1, 2]
    assert report.rows[0].status == "interrupted"


def test_ctrl_c_before_the_first_round_is_no_report(run: Callable[..., Report]) -> None:
    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stop)


def test_a_cold_start_is_the_time_of_its_process(run: Callable[..., Report]) -> None:
    (row,) = run(engines=("openvino",), scenarios=("cold",)).rows
    assert all(len(r.samples_ms) == 1 and r.samples_ms[0] > 10 for r in row.rounds)
    assert row.first_use_s is not None
    assert row.first_use_s["engine"] == 0.2
    assert row.throughput_mpx_s is None


def test_what_cannot_run_here_has_a_row_with_the_reason(run: Callable[..., Report]) -> None:
    first, second = run(engines=("openvino", "tensorrt"), precisions=("fp32",)).rows
    assert (first.status, second.status) == ("done", "unavailable")
    assert second.failure
    assert second.rounds == ()


def test_speed_stands_beside_accuracy_and_roof(run: Callable[..., Report]) -> None:
    (row,) = run(engines=("openvino",)).rows
    assert row.roofline is not None
    assert row.roofline.peak_gflop_s == 100.0
    assert row.throughput_mpx_s is not None
    assert row.mm2_per_s == pytest.approx(row.throughput_mpx_s.value * 0.25)
    assert row.latency_ms is not None
    assert row.latency_ms.p99 is None


def test_a_matrix_that_cannot_run_at_all_is_refused(run: Callable[..., Report]) -> None:
    with pytest.raises(BenchError, match="able to run here"):
        run(engines=("tensorrt",), precisions=("int8",))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threads": (2, 10**6)}, "threads=1000000"),
        ({"precisions": ("fp32", "fp8")}, "Received: fp8"),
        ({"tiles_px": (101,)}, "tile_px=101"),
    ],
)
def test_slips_are_refused_before_anything_runs(
    run: Callable[..., Report], wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(BenchError, match=said):
        run(engines=("openvino",), **wrong)


def test_a_tile_that_does_not_fit_the_model_has_a_row_with_the_reason(
    run: Callable[..., Report],
) -> None:
    fit, unfit = run(engines=("openvino",), tiles_px=(512, 101)).rows
    assert (fit.status, unfit.status, unfit.rounds) == ("done", "unavailable", ())
    assert "multiple of the network's stride" in str(unfit.failure)


def test_an_empty_accuracy_set_is_refused_before_anything_runs(
    run: Callable[..., Report], tmp_path: Path
) -> None:
    (tmp_path / "none" / "images").mkdir(parents=True)
    with pytest.raises(BenchError, match="must hold images"):
        run(accuracy_sets={"none": tmp_path / "none"})


def test_an_accuracy_set_without_truth_is_refused_before_anything_runs(
    run: Callable[..., Report], tmp_path: Path
) -> None:
    (tmp_path / "bare" / "images").mkdir(parents=True)
    (tmp_path / "bare" / "images" / "a.png").touch()
    with pytest.raises(BenchError, match=r"1 of 1 without, e\.g\. a\.png"):
        run(accuracy_sets={"bare": tmp_path / "bare"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": 0},
        {"fps": 0.0},
        {"tiles_px": (0,)},
        {"scenarios": ("tile",)},
        {"min_samples": -1},
        {"min_duration_s": float("nan")},
        {"min_duration_s": float("inf")},
        {"timeout_s": float("nan")},
        {"timeout_s": 0.0},
        {"mpp": 0.0},
        {"mpp": float("nan")},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((BenchError, SlideError), match="Received"):
        BenchOptions(**wrong)


def test_a_round_that_the_memory_does_not_hold_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_scenario(task: object) -> None:
        raise MemoryError("Unable to allocate 1.82 TiB")

    monkeypatch.setattr("cellseg.bench.rounds.scenarios.run_scenario", run_scenario)
    who = Contestant(
        scenario="tile-single", model="nuclei", engine="openvino", precision="fp32",
        tile_px=2**20, batch=1, threads=None,
    )  # fmt: skip
    task = Task(
        contestant=who, model_path="nuclei", slide=None, mpp=None, turn=0, seconds=0.1, samples=1,
        fps=5.0, frame_wh=(64, 64),
    )  # fmt: skip
    with pytest.raises(SystemExit, match=r"The memory does not hold it: Unable to allocate 1.82"):
        worker.main([task.model_dump_json()])
