"""``cellseg-cli verify`` and ``inspect`` of a bundle, with a tiny network."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cellseg.cli import app
from tests.bundles import make_bundle


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "field.png"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 280, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


def verify(image: Path, bundle: Path, *args: str) -> Result:
    fixed = ("--model", str(bundle), "--engine", "onnxruntime", "--tile", "64", "--windows", "3")
    return CliRunner().invoke(app, ["verify", str(image), *fixed, *args])


def test_a_true_halo_leaves_no_seams(image: Path, tmp_path: Path) -> None:
    result = verify(image, make_bundle(tmp_path / "tiny.cellseg").path)
    assert result.exit_code == 0
    assert "field.png: no seams" in result.stdout
    assert "flipped pixels" in result.stdout


def test_a_halo_that_is_too_small_is_found_out(image: Path, tmp_path: Path) -> None:
    liar = make_bundle(tmp_path / "tiny.cellseg", halo_px=0, receptive_field_px=0)
    result = verify(image, liar.path)
    assert result.exit_code == 1
    assert "field.png: SEAMS" in result.stdout
    assert "must agree" in result.stderr
    assert "hint: The model reaches further" in result.stderr


def test_json_holds_every_window(image: Path, tmp_path: Path) -> None:
    result = verify(image, make_bundle(tmp_path / "tiny.cellseg").path, "--json")
    report = json.loads(result.stdout)
    assert report["ok"] is True
    assert len(report["checks"]) == len(report["ways"]) * 3
    assert [way["against"] for way in report["ways"]][:2] == ["untiled", "shifted"]


def test_a_tolerance_of_ones_own_decides(image: Path, tmp_path: Path) -> None:
    liar = make_bundle(tmp_path / "tiny.cellseg", halo_px=0, receptive_field_px=0).path
    allowed = (
        "--max-difference",
        "1",
        "--max-flipped",
        "1e6",
        "--picture",
        str(tmp_path / "p.png"),
    )
    result = verify(image, liar, *allowed)
    assert result.exit_code == 0
    assert "hann" in result.stdout
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_log_has_no_empty_line_of_the_bar(image: Path, tmp_path: Path) -> None:
    result = verify(image, make_bundle(tmp_path / "tiny.cellseg").path)
    assert "" not in result.stderr.splitlines()


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_variable_that_was_not_set_is_not_the_working_folder(command: str) -> None:
    result = CliRunner().invoke(app, [command, ""])
    assert result.exit_code == 1
    assert "Received: an empty text" in result.stderr


def test_a_seed_below_zero_is_wrong_usage(image: Path, tmp_path: Path) -> None:
    result = verify(image, make_bundle(tmp_path / "tiny.cellseg").path, "--seed", "-1")
    assert result.exit_code == 2
    assert "--seed" in result.stderr


def test_a_place_for_the_picture_is_looked_at_before_the_windows_are_run(
    image: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "tiny.cellseg").path
    for place in (tmp_path, image / "seams.png"):
        result = verify(image, bundle, "--picture", str(place))
        assert result.exit_code == 1
        assert f"Received: {place}." in result.stderr
        assert "engine:" not in result.stderr
    there = tmp_path / "new" / "seams.png"
    assert verify(image, bundle, "--picture", str(there)).exit_code == 0
    assert there.stat().st_size > 1000


def test_windows_without_a_seam_are_said_to_test_little(image: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny.cellseg").path
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), np.full((20, 20, 3), 200, np.uint8))
    assert "none in the windows: each lies in one tile" in verify(small, bundle).stdout
    found = json.loads(verify(image, bundle, "--json").stdout)
    one_way = [check for check in found["checks"] if check["against"] == "untiled"]
    assert found["seams"] == sum(check["seams"] for check in one_way) > 0
    assert f"{found['seams']} between tiles lie in the windows" in verify(image, bundle).stdout


def test_a_bundle_with_a_changed_byte_is_refused(image: Path, tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "tiny.cellseg").path
    damaged = bytearray(path.read_bytes())
    damaged[damaged.rindex(b"probabilities") - 40] ^= 1  # inside the model
    path.write_bytes(bytes(damaged))
    result = verify(image, path)
    assert result.exit_code == 1
    assert "tiny.cellseg" in result.stderr
    assert "hint: " in result.stderr


def test_inspect_of_a_bundle_is_text_or_json(tmp_path: Path) -> None:
    path = str(make_bundle(tmp_path / "tiny.cellseg").path)
    assert "halo 4 px" in CliRunner().invoke(app, ["inspect", path]).stdout
    facts = json.loads(CliRunner().invoke(app, ["inspect", path, "--json"]).stdout)
    assert facts["manifest"]["halo_px"] == 4
