"""What is imported for us tells nobody."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from cellseg.runtime.engines.untold import untold

_LOOK = """
import sys
import cellseg.runtime.engines.openvino
print([name for name in sys.modules if name.partition(".")[0] == "openvino_telemetry"])
import openvino
print(callable(openvino.convert_model))
"""


def test_openvino_comes_without_its_telemetry_and_is_whole() -> None:
    pytest.importorskip("openvino")
    look = [sys.executable, "-c", _LOOK]
    seen = subprocess.run(look, check=True, timeout=60, capture_output=True, text=True)
    assert seen.stdout.splitlines() == ["[]", "True"]


def test_what_was_imported_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = types.ModuleType("openvino_telemetry")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", theirs)
    with untold():
        assert sys.modules["openvino_telemetry"] is theirs
    assert sys.modules["openvino_telemetry"] is theirs


def test_it_can_be_imported_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    with untold(), pytest.raises(ModuleNotFoundError):
        __import__("openvino_telemetry")
    assert "openvino_telemetry" not in sys.modules
