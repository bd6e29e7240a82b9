from __future__ import annotations

import pytest

from cellseg.runtime.machine import facts as machine
from cellseg.runtime.machine.facts import this_machine, usable_cores


def fake_files(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    machine._cpuinfo.cache_clear()


@pytest.fixture(autouse=True)
def _forget() -> None:
    machine._cpuinfo.cache_clear()


def test_this_machine_says_what_is_known_and_guesses_nothing() -> None:
    found = this_machine()
    assert found.cores >= 1
    assert found.cpu
    assert found.memory_mb is None or found.memory_mb > 0


def test_a_container_quota_limits_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_files(monkeypatch, {"/sys/fs/cgroup/cpu.max": "50000 100000\n"})
    assert usable_cores() == 1


def test_no_quota_means_every_core_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_files(monkeypatch, {"/sys/fs/cgroup/cpu.max": "max 100000\n"})
    whole = usable_cores()
    fake_files(monkeypatch, {})
    assert usable_cores() == whole


def test_a_container_limits_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_files(monkeypatch, {"/sys/fs/cgroup/memory.max": f"{64 * 2**20}\n"})
    assert machine._memory_mb() == 64


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("flags\t: fpu avx2 avx512f avx512_vnni avx512_bf16", ("avx2", "avx512", "vnni", "bf16")),
        ("Features\t: fp asimd asimddp i8mm bf16", ("bf16", "neon", "dotprod", "i8mm")),
        ("flags\t: fpu sse2", ()),
    ],
)
def test_instruction_sets_are_named_alike_on_x86_and_arm(
    monkeypatch: pytest.MonkeyPatch, line: str, flags: tuple[str, ...]
) -> None:
    fake_files(monkeypatch, {"/proc/cpuinfo": f"processor\t: 0\n{line}\n"})
    assert machine._cpu_flags() == flags
