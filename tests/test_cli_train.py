"""``cellseg-cli train``, where it is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.cli import app
from cellseg.train.loop import fit


def test_what_stops_a_run_is_told_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "train", stopped)
    words = ["train", "nuclei", "--data", str(tmp_path), "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 130
    assert "hint: the same command with --resume goes on from there." in result.stderr
