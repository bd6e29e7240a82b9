"""The first run of a machine compiles its kernels: each once, and nothing that makes text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SLIDE = Path(__file__).parents[3] / "examples" / "cmu-1-small-region.svs"
RUN = """
import json, logging, sys
logging.basicConfig(level=logging.INFO)
from numba.core import event, types

class Compiled(event.Listener):
    found = []
    def on_start(self, started):
        kernel, arguments = started.data["dispatcher"].py_func, started.data["args"]
        literal = any(isinstance(each, types.Literal) for each in arguments)
        self.found.append([kernel.__module__, kernel.__qualname__, literal])
    def on_end(self, ended):
        pass

event.register("numba:compile", Compiled())
from cellseg.runtime.infer import infer_slide
infer_slide(sys.argv[1], sys.argv[2])
infer_slide(sys.argv[1], sys.argv[2] + "-again")
print(json.dumps(Compiled.found))
"""
TWICE = {"halve_labels", "look_up"}  # classes and labels; 8 and 16 bits


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, bool]]:
    """Run a slide with nothing compiled; return module, name and literals of what was."""
    folder = tmp_path_factory.mktemp("first")
    empty = {"NUMBA_CACHE_DIR": str(folder / "numba"), "CELLSEG_CACHE": str(folder / "cache")}
    words = [sys.executable, "-c", RUN, str(SLIDE), str(folder / "out")]
    done = subprocess.run(words, env=os.environ | empty, capture_output=True, text=True, check=True)
    assert done.stderr.count("first run here: kernels are compiled") == 1
    return [(each[0], each[1], each[2]) for each in json.loads(done.stdout.splitlines()[-1])]


def test_each_kernel_is_compiled_for_one_kind_of_arguments(
    compiled: list[tuple[str, str, bool]],
) -> None:
    times = Counter((module, name) for module, name, _ in compiled if module.startswith("cellseg"))
    assert len(times) > 40, "this many kernels are compiled in a first run"
    assert {name for (_, name), count in times.items() if count > 1} <= TWICE


def test_no_kernel_is_compiled_for_a_number_in_the_code(
    compiled: list[tuple[str, str, bool]],
) -> None:
    own = [(module, name) for module, name, literal in compiled if literal]
    assert not [name for module, name in own if module.startswith("cellseg")]


def test_nothing_that_makes_text_is_compiled(compiled: list[tuple[str, str, bool]]) -> None:
    assert not [name for module, name, _ in compiled if module == "numba.cpython.unicode"]
