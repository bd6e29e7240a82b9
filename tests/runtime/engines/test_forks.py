"""What a forked process may do with the engines of its parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg.runtime.engines import ENGINES

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

_FORK = """
import os, signal, sys
import numpy as np
from cellseg.errors import EngineError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines import open_engine

def opened():
    return open_engine(Bundle.open("nuclei"), sys.argv[1], "fp32", (64, 64), threads=2)

def refused(use):
    try:
        use()
    except EngineError as error:
        return "spawn" in error.hint
    return False

def in_a_fork(use, leave):
    if os.fork() == 0:
        signal.alarm(20)  # one that waits for ever must not outlive the test
        leave(0 if use() else 1)
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))

tile = np.zeros((64, 64, 3), np.uint8)
"""
_CHILD_OF_A_USER = """
engine = opened()
engine.infer(tile)
in_a_fork(lambda: refused(opened) and refused(lambda: engine.infer(tile)), os._exit)
"""
_CHILD_OF_A_STRANGER = """
import cellseg.runtime.engines.openvino
in_a_fork(lambda: opened().infer(tile).shape == (64, 64, 3), os._exit)
"""

_CHILD_THAT_CHOOSES = """
from cellseg.runtime.machine.cache_folder import cache_folder

def chooses():
    open_engine(Bundle.open("nuclei"), "auto", "auto", (64, 64), threads=2)

opened().infer(tile)
in_a_fork(lambda: refused(chooses) and not (cache_folder() / "engines.json").exists(), os._exit)
"""
_CHILD_THAT_CLOSES = """
engine = opened()
engine.infer(tile)
in_a_fork(lambda: engine.infer(tile).shape == (64, 64, 3) and engine.close() is None, sys.exit)
"""


@pytest.mark.parametrize("code", [_CHILD_OF_A_USER, _CHILD_OF_A_STRANGER], ids=["used", "unused"])
def test_openvino_is_refused_where_it_would_wait_for_ever(code: str) -> None:
    pytest.importorskip("openvino")
    subprocess.run([sys.executable, "-c", _FORK + code, "openvino"], check=True, timeout=60)


def test_nothing_is_chosen_for_all_where_openvino_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path))
    code = _FORK + _CHILD_THAT_CHOOSES
    subprocess.run([sys.executable, "-c", code, "openvino"], check=True, timeout=60)


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_others_go_on_in_a_fork_and_can_be_closed_there(engine: str) -> None:
    if not ENGINES[engine].is_available():
        pytest.skip(f"{ENGINES[engine].import_name} is not installed")
    code = _FORK + _CHILD_THAT_CLOSES
    subprocess.run([sys.executable, "-c", code, engine], check=True, timeout=60)
