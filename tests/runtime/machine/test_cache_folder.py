"""What is remembered between runs only saves time: without a folder, runs go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellseg.runtime.engines.memory import recall, remember
from cellseg.runtime.machine.cache_folder import cache_folder


def test_a_user_without_a_home_remembers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    for variable in ("CELLSEG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    remember({"slide": 1}, "found")
    assert recall({"slide": 1}) is None
    with pytest.raises(OSError, match=cache_folder().name):
        cache_folder().mkdir(parents=True)
