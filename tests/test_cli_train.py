"""``cellseg-cli train``, where it is stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.cli import app
from cellseg.train.loop import fit


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_a_run_is_told_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(fit, "train", lambda *args: os.kill(os.getpid(), number))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # deaf in the background
    try:
        words = ["train", "nuclei", "--data", str(tmp_path), "-o", str(tmp_path / "run")]
        result = CliRunner().invoke(app, words)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert "hint: the same command with --resume goes on from there." in result.stderr
