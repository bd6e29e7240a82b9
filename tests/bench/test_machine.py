"""Meters, watches and fingerprints read the trees of files that kernels show."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

import pytest

from cellseg.bench.meters.energy import Ina3221, Nvml, Rapl, find_meters, idle_watts, joules_of
from cellseg.bench.meters.fingerprint import fingerprint, machine_words, same_machine
from cellseg.bench.meters.nvml import Library
from cellseg.bench.meters.watch import MachineWatch, clock_mhz, doubts, drift
from cellseg.bench.record import MachineState


def write(root: Path, files: dict[str, object]) -> Path:
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def test_rapl_adds_packages_up_and_sees_a_counter_wrap(tmp_path: Path) -> None:
    for package, energy in (("intel-rapl:0", 900), ("intel-rapl:1", 100)):
        write(tmp_path, {f"{package}/energy_uj": energy, f"{package}/max_energy_range_uj": 1000})
    write(tmp_path, {"intel-rapl:0:0/energy_uj": 5})  # a part of package 0
    meter = Rapl(tmp_path)
    assert meter.is_there
    meter.start()
    write(tmp_path, {"intel-rapl:0/energy_uj": 50, "intel-rapl:1/energy_uj": 300})
    assert meter.stop() == pytest.approx((150 + 200) / 1e6)


def test_without_counters_there_is_no_meter(tmp_path: Path) -> None:
    assert not Rapl(tmp_path).is_there
    assert not Rapl(tmp_path / "absent").is_there
    assert not Ina3221(tmp_path).is_there
    assert idle_watts([], 10.0) == {}


def test_a_jetson_board_is_summed_up_over_time(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "hwmon0/name": "cpu_thermal",
            "hwmon3/name": "ina3221",
            "hwmon3/in1_label": "VDD_GPU_SOC",
            "hwmon3/in2_label": "VDD_IN",
            "hwmon3/in2_input": 5000,
            "hwmon3/curr2_input": 2000,
        },
    )
    meter = Ina3221(tmp_path, every_s=0.01)
    assert meter.is_there
    meter.start()
    started = time.perf_counter()
    time.sleep(0.05)
    joule = meter.stop()
    assert joule == pytest.approx(10 * (time.perf_counter() - started), rel=0.5)


class FakeNvml:
    """Answers like NVIDIA's library for one GPU."""

    millijoule = 5000

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:
        handle._obj.value = 7
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: Any, answer: Any) -> int:
        answer._obj.value = self.millijoule
        return 0

    def nvmlDeviceGetMemoryInfo(self, gpu: Any, memory: Any) -> int:
        memory._obj.total = 8 * 2**30
        return 0

    def nvmlDeviceGetName(self, gpu: Any, buffer: Any, size: int) -> int:
        buffer.value = b"Some GPU"
        return 0

    def nvmlDeviceGetPowerManagementLimit(self, gpu: Any, answer: Any) -> int:
        return 3  # not supported

    def nvmlDeviceGetComputeRunningProcesses_v3(self, gpu: Any, count: Any, found: Any) -> int:
        import os

        found[0].pid, found[0].used = os.getpid(), 300 * 2**20
        found[1].pid, found[1].used = 1, 10 * 2**20
        count._obj.value = 2
        return 0


def test_a_gpu_is_asked_what_it_answers_and_no_more() -> None:
    library = FakeNvml()
    seen = Library(library)
    meter = Nvml(seen)
    assert meter.is_there
    meter.start()
    library.millijoule = 7500
    assert meter.stop() == 2.5
    assert seen.own_memory_mb() == 300
    (gpu,) = seen.gpus()
    assert (gpu["name"], gpu["memory_mb"], gpu["power_limit_w"]) == ("Some GPU", 8192, None)
    assert gpu["driver"] is None


def test_the_meters_of_this_machine_can_be_read() -> None:
    meters = find_meters()
    for meter in meters:
        meter.start()
    assert all(joule >= 0 for joule in joules_of(meters).values())


def test_throttling_and_clocks_are_seen(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/cpu0"
    write(
        tmp_path,
        {
            f"{cpu}/thermal_throttle/core_throttle_count": 3,
            f"{cpu}/cpufreq/scaling_cur_freq": 2_400_000,
            "sys/class/thermal/thermal_zone0/temp": 71_000,
        },
    )
    watch = MachineWatch(tmp_path)
    write(tmp_path, {f"{cpu}/thermal_throttle/core_throttle_count": 8})
    state = watch.state()
    assert (state.throttle_events, state.clock_mhz, state.temperature_c) == (5, 2400.0, 71.0)
    assert state.others_share is None
    assert clock_mhz(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (MachineState(slept_s=30.0), "slept for 120 s"),
        (MachineState(throttle_events=2), "throttled for heat"),
        (MachineState(stolen_share=0.2), "hypervisor gave 20%"),
        (MachineState(others_share=0.5), "other programs used 50%"),
    ],
)
def test_what_disturbs_a_run_is_said(state: MachineState, reason: str) -> None:
    (found,) = doubts([state] * 4, [1.0] * 4)
    assert reason in found


def test_a_falling_clock_is_said() -> None:
    states = [MachineState(clock_mhz=mhz) for mhz in (3000, 3000, 2800, 2400, 2300, 2300)]
    assert doubts(states, [1.0] * 6) == ["the clock fell by 23%"]


def test_nothing_is_said_of_a_quiet_machine() -> None:
    quiet = MachineState(clock_mhz=3000, throttle_events=0, slept_s=0, others_share=0.01)
    assert doubts([quiet] * 5, [1.0, 1.02, 0.99, 1.01, 1.0]) == []
    assert doubts([MachineState()] * 5, [1.0] * 5) == []


@pytest.mark.parametrize(
    ("medians", "moved"),
    [
        ([1.0, 1.1, 1.2, 1.3, 1.4], True),
        ([1.4, 1.3, 1.2, 1.1, 1.0], True),
        ([1.0, 1.4, 0.9, 1.3, 1.0], False),
        ([1.0, 1.01, 1.02, 1.03, 1.04], False),
        ([1.0, 2.0, 3.0], False),
    ],
)
def test_only_a_steady_change_is_a_drift(medians: list[float], moved: bool) -> None:
    assert (drift(medians) is not None) == moved


def test_a_fingerprint_reads_governor_and_power_mode(tmp_path: Path) -> None:
    cpufreq = "sys/devices/system/cpu/cpu0/cpufreq"
    write(
        tmp_path,
        {
            f"{cpufreq}/scaling_governor": "performance",
            f"{cpufreq}/cpuinfo_max_freq": 3_500_000,
            "var/lib/nvpmodel/status": "pmode:0002",
            "sys/class/power_supply/AC/online": 0,
        },
    )
    facts = fingerprint(tmp_path)
    assert facts["governor"] == "performance"
    assert facts["clock_max_mhz"] == 3500.0
    assert facts["power_mode"] == "pmode:0002"
    assert facts["on_battery"] is True
    assert facts["cpu"] in machine_words(facts)
    assert same_machine(facts, fingerprint()) == []
    assert same_machine(facts, facts | {"cores": 999}) == [f"cores: {facts['cores']} and 999"]


def test_the_fake_library_answers_through_real_references() -> None:
    count = ctypes.c_uint()
    assert FakeNvml().nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0
    assert count.value == 1
