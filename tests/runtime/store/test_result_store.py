"""The store of an unfinished run: survives, resumes, refuses to mix."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cellseg.errors import StoreError
from cellseg.runtime.store.lock import LOCK_NAME, FolderLock
from cellseg.runtime.store.packing import pack, unpack
from cellseg.runtime.store.result_store import STORE_NAME, ResultStore, discard_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IDENTITY = {"slide": "ab" * 32, "engine": "openvino", "range": [0.0, 255.0], "threshold": None}
STAGES = {"read": 1.5, "infer": 2.0, "cells": None}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultStore]:
    store = ResultStore(tmp_path)
    store.begin(IDENTITY)
    yield store
    store.close()


def test_committed_tiles_come_back_in_the_next_session(tmp_path: Path, store: ResultStore) -> None:
    for tile in (7, 2):
        planes = {"classes": pack(np.full((3, 4), tile, np.uint8))}
        store.put(tile, planes | ({"interior": b"steps"} if tile == 2 else {}))
    store.commit(4.0, STAGES)
    store.close()
    again = ResultStore(tmp_path)
    again.begin(IDENTITY)
    assert again.done().tolist() == [2, 7]
    assert again.done(("classes", "interior")).tolist() == [2]
    assert unpack(again.plane("classes", 7) or b"", (3, 4), np.uint8).tolist() == [[7] * 4] * 3
    found = [again.plane("interior", 2), again.plane("interior", 7), again.plane("classes", 3)]
    assert found == [b"steps", None, None]
    assert again.earlier_sessions() == (1, 4.0, {"read": 1.5, "infer": 2.0})
    again.close()


def test_a_killed_process_leaves_what_it_committed(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from cellseg.runtime.store.result_store import ResultStore\n"
        "store = ResultStore(pathlib.Path(sys.argv[1]))\n"
        "store.begin({'slide': 'a'})\n"
        "store.put(1, {'classes': b'one'}); store.commit(1.0, {})\n"
        "store.put(2, {'classes': b'two'})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    store = ResultStore(tmp_path)
    store.begin({"slide": "a"})
    assert store.done().tolist() == [1]
    store.close()


def test_another_run_is_refused_by_name_of_what_differs(tmp_path: Path, store: ResultStore) -> None:
    store.close()
    other = ResultStore(tmp_path)
    with pytest.raises(StoreError, match="engine was openvino, is onnxruntime") as caught:
        other.begin(IDENTITY | {"engine": "onnxruntime"})
    assert "threshold" not in str(caught.value)
    assert "--restart" in str(caught.value.hint)
    other.close()


def test_a_key_that_only_one_of_two_runs_has_counts_as_a_difference(
    tmp_path: Path, store: ResultStore
) -> None:
    store.close()
    other = ResultStore(tmp_path)
    with pytest.raises(StoreError, match="blend was none, is hann"):
        other.begin(IDENTITY | {"blend": "hann"})
    other.close()


def test_a_full_disk_says_so_and_keeps_what_was_committed(
    tmp_path: Path, store: ResultStore
) -> None:
    store.put(1, {"classes": b"x" * 1000})
    store.commit(0.0, {})
    store._db.execute("PRAGMA max_page_count = 1")  # SQLite's own full disk
    with pytest.raises(StoreError, match="disk is full") as caught:
        store.put(2, {"classes": bytes(10**8)})
    assert "finished tiles are kept" in str(caught.value.hint)
    store.close()
    again = ResultStore(tmp_path)
    again.begin(IDENTITY)
    assert 1 in again.done()
    again.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no files")
def test_a_limit_of_file_sizes_is_named_and_keeps_what_was_committed(
    tmp_path: Path, store: ResultStore
) -> None:
    import resource

    store.put(1, {"classes": b"one"})
    store.commit(1.0, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, before[1]))
    try:
        with pytest.raises(StoreError, match="allowed to grow.*limit=262144 bytes") as caught:
            store.put(2, {"classes": bytes(10**7)})
        store.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "ulimit -f unlimited" in str(caught.value.hint)
    again = ResultStore(tmp_path)
    again.begin(IDENTITY)
    assert again.done().tolist() == [1]
    again.close()


def test_a_damaged_store_is_named_and_can_be_discarded(tmp_path: Path) -> None:
    (tmp_path / STORE_NAME).write_bytes(b"this is no database, " * 100)
    with pytest.raises(StoreError, match="damaged") as caught:
        ResultStore(tmp_path)
    assert "--restart" in str(caught.value.hint)
    discard_store(tmp_path)
    ResultStore(tmp_path).remove()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_chunk_is_named() -> None:
    with pytest.raises(StoreError, match="damaged"):
        unpack(b"rubbish", (3, 3), np.uint8)
    with pytest.raises(StoreError, match=r"shape \(3, 4\)"):
        unpack(pack(np.zeros((3, 3), np.uint8)), (3, 4), np.uint8)


def test_removing_a_store_leaves_nothing(tmp_path: Path, store: ResultStore) -> None:
    store.put(1, {"classes": b"x"})
    store.commit(0.0, {})
    store.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    with (
        FolderLock(tmp_path),
        pytest.raises(StoreError, match="in use by process") as caught,
        FolderLock(tmp_path),
    ):
        pass
    assert "-o" in str(caught.value.hint)


def test_a_lock_leaves_no_file_and_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with FolderLock(tmp_path):
            assert (tmp_path / LOCK_NAME).exists()
        assert not (tmp_path / LOCK_NAME).exists()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from cellseg.runtime.store.lock import FolderLock\n"
        "lock = FolderLock(pathlib.Path(sys.argv[1])).__enter__()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert (tmp_path / LOCK_NAME).exists()
    with FolderLock(tmp_path):
        pass
