from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellseg.live.service import Pulse, ServiceNotifier, notify
from tests.live.server.fake_session import FakeSession, show_square

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Return the end at which systemd listens."""
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.settimeout(10)
        yield listening


def heard(systemd: socket.socket) -> list[str]:
    return systemd.recv(4096).decode().splitlines()


def test_a_session_reports_its_beginning_its_life_and_its_end(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    session = FakeSession()
    show_square(session, 5)
    session.drop()
    with ServiceNotifier(session):
        assert heard(systemd) == ["READY=1"]
        for _ in range(3):
            assert heard(systemd) == ["STATUS=12.5 results/s, 1 dropped", "WATCHDOG=1"]
    said = heard(systemd)
    while said != ["STOPPING=1"]:
        said = heard(systemd)


def test_without_a_watchdog_there_is_no_beat(systemd: socket.socket) -> None:
    with ServiceNotifier(FakeSession()):
        assert heard(systemd) == ["READY=1"]
        assert heard(systemd) == ["STATUS=12.5 results/s, 0 dropped"]


@pytest.mark.parametrize("usec", ["", "0", "soon"])
def test_a_watchdog_that_is_none_is_no_watchdog(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, usec: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    with ServiceNotifier(FakeSession()):
        heard(systemd)
        assert "WATCHDOG=1" not in heard(systemd)


def test_a_watchdog_for_another_process_is_not_ours(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    with ServiceNotifier(FakeSession()):
        heard(systemd)
        assert "WATCHDOG=1" not in heard(systemd)


def test_where_there_is_no_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    with ServiceNotifier(FakeSession()) as notifier:
        assert notifier._thread is None


def test_a_socket_that_is_gone_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with ServiceNotifier(FakeSession()) as notifier:
        assert notify("STATUS=nobody hears this")
    assert notifier._thread is None or not notifier._thread.is_alive()


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"cellseg-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(10)
        assert notify("READY=1", "STATUS=ok")
        assert heard(listening) == ["READY=1", "STATUS=ok"]


def test_a_frame_that_never_ends_stops_the_pulse_and_the_next_result_revives_it() -> None:
    pulse = Pulse(patience_s=10)
    assert pulse.beats(done=5, waiting=2, now_s=0)
    assert pulse.beats(done=5, waiting=2, now_s=9)
    assert not pulse.beats(done=5, waiting=2, now_s=10)
    assert pulse.beats(done=6, waiting=2, now_s=11)


def test_a_camera_that_sends_nothing_is_no_fault_of_the_session() -> None:
    pulse = Pulse(patience_s=10)
    assert all(pulse.beats(done=3, waiting=0, now_s=now_s) for now_s in range(0, 1000, 50))


def test_the_first_result_may_take_longer() -> None:
    pulse = Pulse(patience_s=10)
    assert pulse.beats(done=0, waiting=1, now_s=0)
    assert pulse.beats(done=0, waiting=1, now_s=100)
    assert not pulse.beats(done=0, waiting=1, now_s=121)
