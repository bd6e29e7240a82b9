"""``cellseg-cli live`` on small pictures with a tiny network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cellseg.cli import app
from tests.bundles import make_bundle
from tests.fakes import nuclei_picture

MODEL = ("--model", "tiny.cellseg", "--engine", "onnxruntime", "--precision", "fp32")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with slide.png and tiny.cellseg in it."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite(str(tmp_path / "slide.png"), nuclei_picture(150, 200))
    make_bundle(tmp_path / "tiny.cellseg")
    return tmp_path


def live(*args: str) -> Result:
    return CliRunner().invoke(app, ["live", *args, *MODEL], env={"COLUMNS": "200"})


def closing(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["sent"] == found["done"] + found["dropped"]
    return found


def test_a_slide_is_played_and_the_last_line_is_json(work: Path) -> None:
    found = closing(live("slide:slide.png", "--frame-size", "64", "--json", "--headless"))
    assert found["sent"] == 12
    assert found["dropped"] == 0
    assert set(found["latency_ms"]) == {"p50", "p95", "p99"}
    assert found["latency_ms"]["p50"] > 0


def test_a_number_of_frames_is_kept(work: Path) -> None:
    found = closing(live("slide:slide.png", "--frame-size", "64", "--frames", "17", "--json"))
    assert found["sent"] == 17


def test_people_get_a_few_lines(work: Path) -> None:
    result = live("slide:slide.png", "--frame-size", "100x64", "--headless")
    assert "frames done" in result.stdout
    assert "p50 / p95 / p99" in result.stdout


def test_a_recording_goes_where_it_was_asked_for(work: Path) -> None:
    args = ("slide:slide.png", "--frame-size", "64", "--frames", "3", "--record", "-o", "out")
    found = closing(live(*args, "--json"))
    assert found["recorded"] == 3
    assert len(list((work / "out" / "slide" / "recording" / "frames").iterdir())) == 3


def test_frames_that_a_source_lost_are_told(work: Path) -> None:
    live("slide:slide.png", "--frame-size", "64", "--record", "-o", "out", "--headless")
    (work / "out" / "slide" / "recording" / "frames" / "frame_000001.ome.tif").unlink()
    assert closing(live("recording:out/slide", "--json", "--headless"))["lost"] == {
        "passed-over": 1
    }
    assert "lost        1 passed-over" in live("recording:out/slide", "--headless").stdout


def test_rules_fire_and_can_end_the_run(work: Path) -> None:
    (work / "rules.toml").write_text(
        '[[rule]]\nname = "three"\nwhen = "frames >= 3"\nstop = true\n'
    )
    found = closing(
        live("slide:slide.png", "--frame-size", "64", "--rules", "rules.toml", "--json")
    )
    assert found["events"] == {"three": 1}
    assert 3 <= found["done"] < 12


def test_a_folder_of_images_of_all_sizes_is_segmented(work: Path) -> None:
    (work / "in").mkdir()
    for n, (h, w) in enumerate([(40, 50), (64, 30), (40, 50)]):
        cv2.imwrite(str(work / "in" / f"{n}.png"), nuclei_picture(h, w))
    found = closing(live("folder:in", "--frames", "3", "--json"))
    assert (found["done"], found["dropped"]) == (3, 0)


def test_a_scan_of_a_painted_stain_finds_what_it_finds_in_grey(work: Path) -> None:
    normalize = {"kind": "slide-percentile", "low": 1, "high": 99}
    make_bundle(work / "tiny.cellseg", input={"normalize": normalize})
    grey = nuclei_picture(150, 200)
    found = {}
    for name, paint in (("grey", (1, 1, 1)), ("green", (0, 1, 0))):
        cv2.imwrite(str(work / f"{name}.png"), grey * np.array(paint, np.uint8))
        scan = closing(live(f"slide:{name}.png", "--frame-size", "64", "-o", "out", "--json"))
        report = json.loads((work / "out" / name / "run.json").read_text())
        assert scan["normalize"]["channel"] == report["normalize"]["channel"]
        found[name] = (report["normalize"]["channel"], report["classes"])
    assert found["grey"][0] is None
    assert found["green"] == ("green", found["grey"][1])
    assert found["green"][1]["nucleus"]["pixels"] > 0
    blue, green, red = cv2.imread(str(work / "out" / "green" / "green.ome.tif")).max(axis=(0, 1))
    assert (blue, red) == (0, 0)
    assert green == grey.max()
    people = live("slide:green.png", "--frame-size", "64", "--headless").stdout
    assert "green, as grey" in people


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("slide:none.tif",), "none.tif"),
        (("film:a.mp4",), "A source is one of"),
        (("video:",), "after the colon"),
        (("folder:none",), "must be there"),
        (("mm:none.cfg",), "must be a file"),
        (("slide:slide.png", "--policy", "newest"), "policy=newest"),
        (("slide:slide.png", "--overlap", "2"), "overlap"),
        (("slide:slide.png", "--rules", "none.toml"), "none.toml"),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_clear_line(work: Path, args: tuple[str, ...], message: str) -> None:
    result = live(*args)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stdout == ""


def test_a_frame_size_that_is_none_is_wrong_usage(work: Path) -> None:
    assert live("slide:slide.png", "--frame-size", "big").exit_code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_ctrl_c_ends_in_order_with_the_last_line(work: Path, number: int) -> None:
    code = "from cellseg.cli import main; main()"
    args = ["live", "slide:slide.png", "--frames", "100000", "--record", "-o", "out", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args, *MODEL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    lines = work / "out" / "slide" / "recording" / "frames.jsonl"
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s and not (lines.exists() and lines.stat().st_size):
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert found["sent"] == found["done"] + found["dropped"]
    assert found["recorded"] == found["done"]
