"""Results are written to file systems that have no locks, as clusters' often are."""

from __future__ import annotations

import errno
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cellseg.errors import StoreError
from cellseg.runtime.store.lock import FolderLock
from cellseg.runtime.store.result_store import ResultStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows locks everywhere")
CONNECT = sqlite3.connect
KILLED = """
import os, pathlib, sys
sys.path.insert(0, sys.argv[2])
from test_no_locks import without_locks
import sqlite3
sqlite3.connect = without_locks
from cellseg.runtime.store.result_store import ResultStore
store = ResultStore(pathlib.Path(sys.argv[1]))
store.begin({"slide": "a"})
store.put(1, {"classes": b"one"}); store.commit(1.0, {})
store.put(2, {"classes": b"two"})
os.kill(os.getpid(), 9)
"""


class _Unlockable(sqlite3.Connection):
    """What SQLite does where it cannot lock: it opens, and fails at the first page."""

    def executescript(self, script: str) -> sqlite3.Cursor:
        raise sqlite3.OperationalError("disk I/O error")


def without_locks(name: str, **options: Any) -> sqlite3.Connection:
    """Connect as on a file system where locking fails."""
    if "vfs=unix-none" not in name:
        options["factory"] = _Unlockable
    found: sqlite3.Connection = CONNECT(name, **options)
    return found


def test_a_folder_is_held_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    with caplog.at_level(logging.WARNING), FolderLock(tmp_path):
        assert "has no locks (Function not implemented)" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_run_holds_is_still_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def held(*_: object) -> None:
        raise OSError(errno.EWOULDBLOCK, "Resource temporarily unavailable")

    monkeypatch.setattr(fcntl, "flock", held)
    with pytest.raises(StoreError, match="Only one run"), FolderLock(tmp_path):
        pass


def test_a_store_survives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "50 % of #1?"
    folder.mkdir()
    words = [sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parent)]
    assert subprocess.run(words, check=False).returncode == -9
    monkeypatch.setattr(sqlite3, "connect", without_locks)
    store = ResultStore(folder)
    store.begin({"slide": "a"})
    assert store.done().tolist() == [1]
    store.close()


def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, **options: Any) -> sqlite3.Connection:
        return CONNECT(name, factory=_Unlockable, **options)

    monkeypatch.setattr(sqlite3, "connect", broken)
    with pytest.raises(StoreError, match="disk I/O error"):
        ResultStore(tmp_path)
