"""Kernels work wherever they are installed, and are kept where something can be written."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import numba
import pytest
from numba.core import caching

from cellseg.runtime.kernels import compiled
from cellseg.runtime.kernels.compiled import kernel


@pytest.fixture(autouse=True)
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave numba no folder but the one that it is told, as where neither install nor home can."""
    told = [caching._UserProvidedCacheLocator]
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", told)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    compiled._finds_a_folder.cache_clear()
    compiled._tell_once.cache_clear()
    yield
    compiled._finds_a_folder.cache_clear()


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def test_numba_alone_would_fail() -> None:
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(add)


def test_what_was_compiled_is_kept_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path / "cache"))
    assert kernel(add)(2, 3) == 5
    assert list((tmp_path / "cache" / "numba").rglob("*.nbc"))
    again = kernel(add)
    assert again(2, 3) == 5
    assert not again.stats.cache_misses


def test_without_any_folder_kernels_work_and_say_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert kernel(add)(2, 3) == 5
        assert kernel(add)(3, 4) == 7
    assert len(caplog.records) == 1
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_a_full_disk_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    with caplog.at_level(logging.WARNING):
        assert kernel(add)(2, 3) == 5
        assert kernel(add)(2.0, 3.0) == 5.0
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
