"""The choice of an engine rests on evidence, and is made once."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import closing
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cellseg.errors import EngineError
from cellseg.runtime.bundles.bundle import write_bundle
from cellseg.runtime.engines import ENGINES, choose_engine, measure, open_engine, select, table
from cellseg.runtime.engines.measure import Measurement, measure_speed
from tests.bundles import make_bundle, make_manifest, tiny_onnx, variant_fields
from tests.fakes import IdentityEngine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.engines import Choice

HW = (32, 32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines.json"


@pytest.fixture
def fastest(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the trial find the precisions in this order, and count the trials."""
    speeds = {"int8": 2.0, "fp32": 1.0}
    trials: list[str] = []

    def measure(engines: dict[Any, Any]) -> dict[Any, Measurement]:
        trials.append(",".join(map(str, engines)))
        return {choice: Measurement(speeds[choice.precision]) for choice in engines}

    monkeypatch.setattr(select, "measure_speed", measure)
    return trials


def bundle_with_int8(
    path: Path, vs_fp32: dict[str, float] | None, agreement: Sequence[dict[str, object]] = ()
) -> Bundle:
    """Write a bundle whose "int8" file is the fp32 one: the choice reads the manifest only."""
    data = tiny_onnx()
    int8 = {"file": "model.int8.u8s8.onnx", "precision": "int8", "scheme": "u8s8"}
    entries = (
        variant_fields(data),
        variant_fields(data, vs_fp32=vs_fp32, agreement=agreement, **int8),
    )
    files = {str(entry["file"]): data for entry in entries}
    return write_bundle(path, make_manifest(*entries), files)


@pytest.mark.parametrize(("kept", "expected"), [(0.9934, "int8"), (0.981, "fp32")])
def test_a_bundle_without_labelled_evidence_is_run_by_agreement_and_that_is_said(
    tmp_path: Path,
    fastest: list[str],
    caplog: pytest.LogCaptureFixture,
    kept: float,
    expected: str,
) -> None:
    both = [{"tiles": 9, "dice": {"nucleus": share}, "engine": "e"} for share in (0.999, kept)]
    bundle = bundle_with_int8(tmp_path / "b.cellseg", None, both)
    with caplog.at_level("INFO", "cellseg"):
        assert choose_engine(bundle, "auto", "auto", threads=1).precision == expected
    assert f"agrees with fp32 to {kept:.4f}" in caplog.text
    assert "not measured on labelled images" in caplog.text


@pytest.mark.parametrize(
    ("vs_fp32", "expected"),
    [
        ({"dice_ratio": 0.999, "object_f1_ratio": 0.995}, "int8"),
        ({"dice_ratio": 0.999, "object_f1_ratio": 0.95}, "fp32"),
        (None, "fp32"),
    ],
    ids=["good enough", "too few objects found", "not measured"],
)
def test_fastest_variant_with_proven_quality_is_taken(
    tmp_path: Path, fastest: list[str], vs_fp32: dict[str, float] | None, expected: str
) -> None:
    bundle = bundle_with_int8(tmp_path / "b.cellseg", vs_fp32)
    assert choose_engine(bundle, "auto", "auto", threads=1).precision == expected


def test_precision_that_is_asked_for_is_taken_without_proof(
    tmp_path: Path, fastest: list[str]
) -> None:
    bundle = bundle_with_int8(tmp_path / "b.cellseg", None)
    assert choose_engine(bundle, "onnxruntime", "int8", threads=1).precision == "int8"
    assert fastest == []  # one candidate needs no trial


@pytest.mark.parametrize(("precision", "said"), [("auto", True), ("fp32", False)])
def test_why_an_engine_is_taken_is_said_where_it_was_not_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, precision: str, said: bool
) -> None:
    bundle = make_bundle(tmp_path / "b.cellseg")
    with caplog.at_level(logging.INFO, logger="cellseg"):
        open_engine(bundle, "onnxruntime", precision, HW, threads=1).close()
    assert ("the only one that fits" in caplog.text) == said


def test_choice_is_remembered_and_explained(
    tmp_path: Path, fastest: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    bundle = make_bundle(tmp_path / "b.cellseg")
    with caplog.at_level(logging.INFO, logger="cellseg"):
        first = choose_engine(bundle, "auto", "fp32", threads=1)
        again = choose_engine(bundle, "auto", "fp32", threads=1)
        assert "measured earlier" not in caplog.text  # plans ask, and do not open it
        with closing(open_engine(bundle, "auto", "fp32", HW, threads=1)) as engine:
            assert engine.name == first.engine
    assert first == again
    assert len(fastest) == 1
    assert "is the fastest" in caplog.text
    assert caplog.text.count("measured earlier") == 1


def test_with_little_memory_engines_are_tried_one_after_the_other_on_small_tiles(
    tmp_path: Path, fastest: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[IdentityEngine] = []
    closed: list[IdentityEngine] = []
    sides: list[tuple[int, int | None]] = []

    def open_one(bundle: Bundle, choice: Choice, hw: Any, threads: int, **at_once: Any) -> Any:
        sides.append((hw[0], at_once["most_at_once"]))
        assert opened == closed
        opened.append(IdentityEngine(hw))
        return opened[-1]

    monkeypatch.setattr(select, "open_choice", open_one)
    monkeypatch.setattr(IdentityEngine, "close", lambda engine: closed.append(engine))
    bundle = bundle_with_int8(tmp_path / "b.cellseg", {"dice_ratio": 1, "object_f1_ratio": 1})
    assert choose_engine(bundle, "auto", "auto", threads=2, sparing=True).precision == "int8"
    assert len(fastest) == len(opened) > 1
    assert set(sides) == {(256, 1)}


def test_other_threads_or_another_bundle_are_tried_anew(tmp_path: Path, fastest: list[str]) -> None:
    bundle = make_bundle(tmp_path / "b.cellseg")
    other = make_bundle(tmp_path / "o.cellseg", data=tiny_onnx(seed=1))
    choose_engine(bundle, "auto", "fp32", threads=1)
    choose_engine(bundle, "auto", "fp32", threads=2)
    choose_engine(other, "auto", "fp32", threads=1)
    assert len(fastest) == 3


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}'])
def test_damaged_memory_is_measured_over(
    tmp_path: Path, fastest: list[str], cache: Path, content: str
) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    choose_engine(make_bundle(tmp_path / "b.cellseg"), "auto", "fp32", threads=1)
    assert len(json.loads(cache.read_text())) >= 1


def test_engine_that_fails_to_open_is_left_out(
    tmp_path: Path,
    fastest: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = replace(ENGINES["openvino"], import_name="json", module="no_such_module")
    monkeypatch.setitem(ENGINES, "openvino", broken)
    bundle = make_bundle(tmp_path / "b.cellseg")
    assert choose_engine(bundle, "auto", "fp32", threads=1).engine == "onnxruntime"
    assert "openvino fp32 cannot be used" in caplog.text


def test_a_remembered_engine_that_no_longer_loads_is_given_up_for_another(
    tmp_path: Path,
    fastest: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundle = make_bundle(tmp_path / "b.cellseg")
    first = choose_engine(bundle, "auto", "fp32", threads=1)
    broken = replace(ENGINES[first.engine], module="no_such_module")
    monkeypatch.setitem(ENGINES, first.engine, broken)
    second = choose_engine(bundle, "auto", "fp32", threads=1)
    assert second.engine != first.engine
    assert f"{first} cannot be used: engine {first.engine!r} must be importable" in caplog.text
    assert choose_engine(bundle, "auto", "fp32", threads=1) == second
    assert len(fastest) == 2  # the other is remembered in its place


def test_an_engine_that_was_chosen_and_does_not_open_is_forgotten_for_another(
    tmp_path: Path,
    fastest: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundle = make_bundle(tmp_path / "b.cellseg", tflite=True)
    first = choose_engine(bundle, "auto", "fp32", threads=1)
    whole = select.open_choice

    def refuses(bundle: Bundle, choice: Choice, *others: Any, **more: Any) -> Any:
        if choice == first:
            raise EngineError("The device must have memory.")
        return whole(bundle, choice, *others, **more)

    with monkeypatch.context() as patch:
        patch.setattr(select, "open_choice", refuses)
        with closing(open_engine(bundle, "auto", "fp32", HW, threads=1)) as engine:
            assert engine.name != first.engine
    assert f"{first} cannot be used: The device must have memory." in caplog.text
    assert len(fastest) == 2
    assert choose_engine(bundle, "auto", "fp32", threads=1) == first
    assert len(fastest) == 3  # it was tried anew


def test_an_engine_that_was_asked_for_and_does_not_open_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(ENGINES["onnxruntime"], module="no_such_module")
    monkeypatch.setitem(ENGINES, "onnxruntime", broken)
    with pytest.raises(EngineError, match="engine 'onnxruntime' must be importable"):
        open_engine(make_bundle(tmp_path / "b.cellseg"), "onnxruntime", "auto", HW)


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, AttributeError])
def test_whatever_a_broken_package_raises_is_an_error_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(name: str) -> None:
        raise error("bad ELF")

    monkeypatch.setattr(table, "import_module", broken)
    with pytest.raises(EngineError, match="must be importable. Received: bad ELF") as caught:
        ENGINES["onnxruntime"].load("onnxruntime")
    assert "--force-reinstall" in str(caught.value.hint)


def test_what_a_removed_package_left_behind_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = module_from_spec(ModuleSpec("onnxruntime", None))
    monkeypatch.setitem(sys.modules, "onnxruntime", empty)
    monkeypatch.delitem(sys.modules, ENGINES["onnxruntime"].module, raising=False)
    with pytest.raises(EngineError, match="must be importable"):
        ENGINES["onnxruntime"].load("onnxruntime")


def test_missing_engine_is_named_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = replace(ENGINES["openvino"], import_name="no_such_package")
    monkeypatch.setitem(ENGINES, "openvino", absent)
    with pytest.raises(EngineError, match="needs the package 'no_such_package'") as caught:
        open_engine(make_bundle(tmp_path / "b.cellseg"), "openvino", "auto", HW)
    assert caught.value.hint == "pip install openvino"


def test_engine_that_is_not_in_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="engine must be one of"):
        open_engine(make_bundle(tmp_path / "b.cellseg"), "tensorflow", "auto", HW)


def test_precision_that_the_bundle_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"bundle with \['fp32'\]"):
        open_engine(make_bundle(tmp_path / "b.cellseg"), "auto", "int8", HW)


def test_trial_runs_every_engine_and_gives_speeds(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b.cellseg")
    engines = {"a": open_engine(bundle, "onnxruntime", "fp32", HW, threads=1)}
    measured = measure_speed(engines, rounds=1, round_s=0.0)
    assert np.isfinite(measured["a"].px_per_s)
    assert measured["a"].px_per_s > 0


class TimedEngine(IdentityEngine):
    """Takes a given time for a tile, on a clock of the test's."""

    now_s = 0.0

    def __init__(self, tile_s: float) -> None:
        super().__init__(HW)
        self.tile_s, self.tiles, self.concurrency = tile_s, 0, 1

    def infer(self, tile: Any, out: Any = None) -> Any:
        TimedEngine.now_s += self.tile_s
        self.tiles += 1
        return super().infer(tile, out)


def test_an_engine_without_a_chance_gets_no_further_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure.time, "perf_counter", lambda: TimedEngine.now_s)
    engines = {"fast": TimedEngine(0.01), "near": TimedEngine(0.015), "slow": TimedEngine(0.1)}
    measured = measure_speed(engines, rounds=2, round_s=0.1)
    assert engines["slow"].tiles == 2
    assert min(engines["fast"].tiles, engines["near"].tiles) > 10
    assert measured["fast"].px_per_s == pytest.approx(32 * 32 / 0.01)
    assert measured["slow"].px_per_s == pytest.approx(32 * 32 / 0.1)


def test_what_was_measured_with_more_memory_is_taken_under_a_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "b.cellseg", tflite=True)
    first = choose_engine(bundle, "auto", "fp32", threads=1)
    monkeypatch.setattr(select, "_fastest", None)  # nothing is measured again
    assert choose_engine(bundle, "auto", "fp32", threads=1, sparing=True) == first
