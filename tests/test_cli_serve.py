from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cellseg.cli import app
from tests.bundles import make_bundle

pytest.importorskip("aiohttp", reason="the live extra is not installed")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_serve_answers_until_it_is_told_to_stop(tmp_path: Path, end: signal.Signals) -> None:
    model = make_bundle(tmp_path / "tiny.cellseg").path
    words = ["serve", "--model", str(model), "--port", "0", "--engine", "onnxruntime"]
    with subprocess.Popen(
        [sys.executable, "-m", "cellseg", *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        image = cv2.imencode(".png", np.full((40, 56, 3), 99, np.uint8))[1].tobytes()
        with urllib.request.urlopen(urllib.request.Request(url, image), timeout=30) as got:
            seen = json.load(got)
        process.send_signal(end)
        assert process.wait(timeout=30) == 0
    assert (seen["width_px"], seen["height_px"]) == (56, 40)
    assert url.startswith("http://127.0.0.1:")


def test_serve_refuses_a_model_that_is_not_there_before_it_listens() -> None:
    answer = CliRunner().invoke(app, ["serve", "--model", "no-such-model", "--port", "0"])
    assert answer.exit_code == 1
    assert "no-such-model" in answer.output


def test_a_port_that_is_no_port_is_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["serve", "--port", "70000"]).exit_code == 2
