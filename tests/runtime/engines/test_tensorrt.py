"""The TensorRT engine on a GPU that is not there: order of calls, caches, buffers, errors."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellseg.errors import EngineError
from cellseg.runtime.engines import ENGINES, EngineOptions, cuda
from cellseg.runtime.engines.cuda import Cuda, Device, gpu_obstacle
from cellseg.runtime.engines.tensorrt import TensorRtEngine
from cellseg.runtime.engines.tensorrt_cache import PLANS
from tests.runtime.engines.fake_gpu import ORIN, RTX_4070, FakeDriver, FakeTensorRt

HW = (32, 48)
OPTIONS = EngineOptions("int8", HW, 2, 1)


@pytest.fixture(autouse=True)
def _own_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path))


def opened(
    driver: FakeDriver, tensorrt: FakeTensorRt | None = None, model: bytes = b"model"
) -> TensorRtEngine:
    tensorrt = FakeTensorRt(driver) if tensorrt is None else tensorrt
    return TensorRtEngine(model, OPTIONS, tensorrt, Cuda(driver))  # type: ignore[arg-type]


def tiles(count: int = 8) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*HW, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("device", [RTX_4070, ORIN], ids=lambda d: d.name)
@pytest.mark.parametrize("can_record", [True, False], ids=["graph", "no-graph"])
def test_every_tile_gets_its_own_result(device: Device, can_record: bool) -> None:
    driver = FakeDriver(device, can_record=can_record)
    engine = opened(driver)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(engine.infer, tiles()))
    for tile, result in zip(tiles(), results, strict=True):
        np.testing.assert_array_equal(result[..., 1], tile[..., 1].astype(np.float32) / 255)
    assert driver.launches == (8 if can_record else 0)


def test_no_later_call_writes_to_a_result() -> None:
    engine = opened(FakeDriver())
    first, *others = tiles()
    result = engine.infer(first)
    kept = result.tobytes()
    for tile in others:
        engine.infer(tile)
    assert result.tobytes() == kept


def test_result_goes_where_the_caller_wants_it() -> None:
    out = np.empty((*HW, 2), np.float32)
    assert opened(FakeDriver()).infer(tiles()[0], out) is out


def test_every_thread_enters_the_context() -> None:
    driver = FakeDriver()
    engine = opened(driver)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(engine.infer, tiles()[0]).result()
    assert len(driver.threads) == 2


def test_discrete_gpu_has_buffers_of_its_own_and_a_jetson_shares() -> None:
    discrete, shared = FakeDriver(RTX_4070), FakeDriver(ORIN)
    opened(discrete), opened(shared)
    assert len(discrete.memory) == 2 * len(shared.memory) == 8


def test_closing_gives_everything_back() -> None:
    driver = FakeDriver()
    engine = opened(driver)
    engine.infer(tiles()[0])
    engine.close()
    engine.close()
    assert (driver.memory, driver.streams, driver.graphs) == ({}, set(), {})
    assert driver.contexts == 0
    with pytest.raises(EngineError, match="closed"):
        engine.infer(tiles()[0])


def test_second_start_builds_nothing() -> None:
    driver = FakeDriver()
    first, second = FakeTensorRt(driver), FakeTensorRt(driver)
    opened(driver, first), opened(driver, second)
    assert (first.built, second.built) == ([HW], [])
    (facts,) = [json.loads(path.read_text()) for path in PLANS.folder.glob("*.json")]
    assert facts["int8"] == ["stem"]
    assert facts["key"]["gpu"] == RTX_4070.name


@pytest.mark.parametrize(
    "change",
    [
        {"name": "NVIDIA GeForce RTX 4090"},
        {"capability": "8.6"},
        {"driver": 13020},
        {"memory_mb": 16376},
    ],
    ids=str,
)
def test_engine_of_another_gpu_is_built_anew(change: dict[str, Any]) -> None:
    opened(FakeDriver())
    driver = FakeDriver(replace(RTX_4070, **change))
    other = FakeTensorRt(driver)
    opened(driver, other)
    assert other.built == [HW]


def test_engine_of_another_version_or_model_is_built_anew() -> None:
    driver = FakeDriver()
    opened(driver)
    newer, other = FakeTensorRt(driver, "10.4.0"), FakeTensorRt(driver)
    opened(driver, newer), opened(driver, other, b"another model")
    assert newer.built == other.built == [HW]


@pytest.mark.parametrize("damage", ["plan", "facts", "swapped"])
def test_damaged_engine_is_built_anew(damage: str) -> None:
    driver = FakeDriver()
    opened(driver)
    (plan,) = PLANS.folder.glob("*.engine")
    if damage == "plan":
        plan.write_bytes(plan.read_bytes()[:-1])
    elif damage == "facts":
        plan.with_suffix(".json").write_text("{")
    else:
        facts = json.loads(plan.with_suffix(".json").read_text())
        facts["key"]["gpu"] = "another"
        plan.with_suffix(".json").write_text(json.dumps(facts))
    again = FakeTensorRt(driver)
    opened(driver, again)
    assert again.built == [HW]


def test_engine_that_no_longer_opens_is_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    opened(driver)
    again = FakeTensorRt(driver)
    once, open_engine = [None], again.open_engine
    monkeypatch.setattr(again, "open_engine", lambda p: once.pop() if once else open_engine(p))
    opened(driver, again)
    assert again.built == [HW]


def test_second_build_on_a_gpu_begins_with_what_the_first_measured() -> None:
    driver = FakeDriver()
    tensorrt = FakeTensorRt(driver)
    opened(driver, tensorrt), opened(driver, tensorrt, b"another model")
    assert tensorrt.timings == [b"", b"measured"]


def test_folder_that_cannot_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path / "file"))
    assert opened(FakeDriver()).infer(tiles()[0]).shape == (*HW, 2)


def test_model_of_other_channels_is_refused() -> None:
    driver = FakeDriver()
    with pytest.raises(EngineError, match="The model must map"):
        TensorRtEngine(
            b"", EngineOptions("int8", HW, 3, 1), FakeTensorRt(driver), Cuda(driver)  # type: ignore[arg-type]
        )  # fmt: skip


def test_machine_without_a_gpu_is_told_so() -> None:
    with pytest.raises(EngineError, match="needs an NVIDIA GPU"):
        Cuda(FakeDriver(gpus=0))


def test_failing_call_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    gpu = Cuda(driver)
    monkeypatch.setattr(driver, "cuMemAlloc_v2", lambda *_: 2)
    gpu.enter()
    with pytest.raises(EngineError, match="cuMemAlloc_v2: CUDA_ERROR_FAKE"):
        gpu.allocate(1)


def test_device_is_described_without_taking_a_context() -> None:
    driver = FakeDriver(ORIN)
    assert Cuda(driver).device == ORIN
    assert driver.contexts == 0


def test_engine_is_not_offered_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise EngineError("TensorRT needs NVIDIA's driver. Received: no libcuda.so.1.")

    monkeypatch.setattr(cuda, "_load", absent)
    gpu_obstacle.cache_clear()
    entry = replace(ENGINES["tensorrt"], import_name="json")  # as if it were installed
    assert entry.is_installed
    assert not entry.is_available()
    with pytest.raises(EngineError, match="no libcuda.so.1"):
        entry.require("tensorrt")
    gpu_obstacle.cache_clear()
