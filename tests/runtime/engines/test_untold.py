"""What is imported for us tells nobody."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import cellseg
from cellseg.runtime.engines.untold import untold

_LOOK = """
import sys
import cellseg.runtime.engines.openvino
print([name for name in sys.modules if name.partition(".")[0] == "openvino_telemetry"])
import openvino
print(callable(openvino.convert_model))
"""

_OPEN = """
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines import open_engine
open_engine(Bundle.open("nuclei"), "onnxruntime", "fp32", (64, 64)).close()
"""
_EXAMINE = """
import sys
from cellseg.runtime.doctor import examine
examine()
assert "openvino_telemetry" not in sys.modules
"""


def test_openvino_comes_without_its_telemetry_and_is_whole() -> None:
    pytest.importorskip("openvino")
    look = [sys.executable, "-c", _LOOK]
    seen = subprocess.run(look, check=True, timeout=60, capture_output=True, text=True)
    assert seen.stdout.splitlines() == ["[]", "True"]


@pytest.mark.parametrize("code", [_OPEN, _EXAMINE], ids=["an engine", "the doctor"])
def test_nothing_is_noted_in_the_home_directory(code: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    others = ("HOME", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY")
    clean = {name: value for name, value in os.environ.items() if name not in others}
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, env=clean | {"HOME": str(tmp_path)}
    )
    assert list(tmp_path.rglob("*onnxruntime*")) == []


def test_packages_that_tell_are_imported_by_nobody_else() -> None:
    for source in Path(cellseg.__path__[0]).rglob("*.py"):
        tree = ast.parse(source.read_text(encoding="utf-8"))
        hidden = [node for node in ast.walk(tree) if _is_untold(node)]
        kept = {inner for node in hidden for inner in ast.walk(node)}
        assert not any(_imports_who_tells(node) for node in set(ast.walk(tree)) - kept), source


def _is_untold(node: ast.AST) -> bool:
    return isinstance(node, ast.With) and "untold()" in map(ast.unparse, node.items)


def _imports_who_tells(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    else:
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
    return any(name.partition(".")[0] in ("openvino", "onnxruntime") for name in names)


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
