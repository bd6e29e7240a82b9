"""What examples/ and docs/ show of live use, run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg.runtime.bundles.bundle import shipped_models

ROOT = Path(__file__).resolve().parents[2]
needs_model = pytest.mark.skipif("nuclei" not in shipped_models(), reason="no nuclei is shipped")


@needs_model
def test_the_embedding_example_segments_its_frames() -> None:
    command = [sys.executable, str(ROOT / "examples" / "embed_live.py"), "3"]
    here = os.environ | {"PYTHONPATH": str(ROOT)}  # this cellseg, wherever another is installed
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=here)
    *frames, last = answer.stdout.splitlines()
    assert [line.partition(":")[0] for line in frames] == ["frame 0", "frame 1", "frame 2"]
    assert all(int(re.findall(r"\d+", line)[-1]) > 5 for line in frames)
    assert last == "sent 3, done 3, dropped 0"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no POSIX shared memory at /dev/shm")
def test_the_python_program_of_the_ring_document_runs() -> None:
    text = (ROOT / "docs" / "ring.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, float] = {}
    exec(compile(program, "ring.md", "exec"), names)
    assert names["mean"] == 7


@needs_model
def test_the_sdk_program_of_the_embedding_document_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import numpy as np

    text = (ROOT / "docs" / "embedded.md").read_text(encoding="utf-8")
    program, page = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

    class Stage:
        def position(self) -> tuple[float, float, float]:
            return (0.0, 0.0, 0.0)

    camera = [np.full((64, 64, 3), 90, np.uint8)]
    exec(compile(program, "embedded.md", "exec"), {"camera": camera, "stage": Stage()})
    assert "'sent': 1" in capsys.readouterr().out
    assert len(program.strip().splitlines()) <= 20
    compile(page, "embedded.md", "exec")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = (ROOT / "examples" / "cellseg-live.service").read_text(encoding="utf-8")
    here = tmp_path / "cellseg-live.service"
    here.write_text(unit.replace("/opt/cellseg/bin/cellseg-cli", sys.executable))
    answer = subprocess.run(
        ["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in answer.stderr.splitlines() if "cellseg-live" in line]
    assert complaints == []
