"""``cellseg-cli infer`` on small images with a tiny network: results, batches, errors, resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cellseg.cli import app
from cellseg.runtime import infer as infer_module
from tests.bundles import make_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that holds scans/a.png, scans/b.png and tiny.cellseg; it is the cwd."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        pixels = rng.integers(0, 256, (50, 70, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "scans" / f"{name}.png"), pixels)
    make_bundle(tmp_path / "tiny.cellseg")
    return tmp_path


def infer(*args: str) -> Result:
    fixed = ("--model", "tiny.cellseg", "--engine", "onnxruntime", "--precision", "fp32")
    return CliRunner().invoke(app, ["infer", *args, *fixed], env={"COLUMNS": "120"})


def run_json(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return found


def test_a_run_prints_what_it_found_and_where_the_files_are(work: Path) -> None:
    result = infer("scans/a.png", "-o", "out")
    assert result.exit_code == 0
    for name in ("classes.ome.tif", "overlay.jpg", "run.json"):
        assert (work / "out" / "a" / name).stat().st_size > 0
        assert str(Path("out", "a", name)) in result.stdout
    assert "of the image" in result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_more_is_said_on_stderr_and_in_the_log_where_it_is_asked_for(work: Path) -> None:
    quiet, loud = (infer("scans/a.png", "-o", out, *v) for out, v in (("q", ()), ("v", ("-v",))))
    log = (work / "v" / "a" / "run.log").read_text(encoding="utf-8")
    for fact in ("the result depends on", "range [", "busy seconds: read", "peak of memory"):
        assert fact in loud.stderr
        assert fact in log
        assert fact not in quiet.stderr


def test_a_name_that_is_no_utf8_is_a_name_like_any_other(work: Path) -> None:
    old = os.fsdecode(b"pr\xe9.png")  # as Latin-1 systems wrote it
    (work / "scans" / "a.png").rename(work / "scans" / old)
    result = infer(f"scans/{old}", "-o", "out", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["runs"][0]["input"] == f"scans/{old}"
    report = run_json(work / "out" / "pr_")
    assert report["input"]["path"] == f"scans/{old}"  # type: ignore[index]
    assert "done already" in infer(f"scans/{old}", "-o", "out").stderr


def test_results_go_to_cellseg_out_where_nothing_is_said(work: Path) -> None:
    assert infer("scans/a.png").exit_code == 0
    assert run_json(work / "cellseg-out" / "a")["status"] == "done"


def test_json_is_the_report_of_each_run_and_nothing_else(work: Path) -> None:
    result = infer("scans", "-o", "out", "--json")
    runs = json.loads(result.stdout)["runs"]
    assert [run["input"] for run in runs] == [str(Path("scans", n)) for n in ("a.png", "b.png")]
    assert runs[0]["run"] == run_json(work / "out" / "a")


def test_only_what_is_asked_for_is_written(work: Path) -> None:
    assert infer("scans/a.png", "-o", "out", "--write", "overlay").exit_code == 0
    assert not (work / "out" / "a" / "classes.ome.tif").exists()
    assert (work / "out" / "a" / "overlay.jpg").exists()


def test_one_bad_slide_does_not_stop_the_others(work: Path) -> None:
    (work / "scans" / "aa.tif").write_bytes(b"II*\0 no image")
    result = infer("scans", "-o", "out")
    assert result.exit_code == 1
    assert "error: " in result.stderr
    assert "2 of 3 inputs done" in result.stderr
    assert f"failed: {Path('scans', 'aa.tif')}" in result.stderr
    assert run_json(work / "out" / "b")["status"] == "done"


def test_a_fault_of_ours_on_one_slide_does_not_stop_the_others(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = infer_module.infer_slide

    def faulty(slide: Path, *args: object, **options: Any) -> object:
        if slide.name == "a.png":
            raise ZeroDivisionError("division by zero")
        return whole(slide, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(infer_module, "infer_slide", faulty)
    result = infer("scans", "-o", "out", "--json")
    first, second = json.loads(result.stdout)["runs"]
    assert result.exit_code == 1
    assert "unexpected ZeroDivisionError" in first["error"]
    assert "please report it" in first["hint"]
    assert "Traceback" in result.stderr
    assert second["run"]["status"] == "done"


def test_a_package_that_does_not_load_is_no_fault_of_ours(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise ImportError("Numba needs NumPy 2.2 or less. Got NumPy 2.3.")

    monkeypatch.setattr(infer_module, "infer_slide", broken)
    result = infer("scans/a.png", "-o", "out")
    assert result.exit_code == 1
    assert "must load. Received: ImportError: Numba needs NumPy 2.2" in result.stderr
    assert "hint: 'cellseg-cli doctor' says what is wrong" in result.stderr
    assert "Traceback" not in result.stderr


def test_inputs_that_would_share_a_folder_are_left_out_and_the_others_run(work: Path) -> None:
    (work / "scans" / "a.jpg").write_bytes((work / "scans" / "a.png").read_bytes())
    result = infer("scans", "-o", "out", "--json")
    first, second, third = json.loads(result.stdout)["runs"]
    assert result.exit_code == 1
    assert "2 of 3 inputs share a result folder" in result.stderr.splitlines()[0]
    assert "a.jpg and scans/a.png for out/a." in first["error"].replace("\\", "/")
    assert "a.png and scans/a.jpg for out/a." in second["error"].replace("\\", "/")
    assert "different -o" in first["hint"]
    assert third["run"]["status"] == "done"
    assert [path.name for path in (work / "out").iterdir()] == ["b"]


def test_an_input_that_comes_later_takes_no_folder_from_another(work: Path) -> None:
    infer("scans", "-o", "out")
    before = (work / "out" / "a" / "run.json").read_bytes()
    (work / "scans" / "a.jpg").write_bytes((work / "scans" / "a.png").read_bytes())
    result = infer("scans", "-o", "out", "--restart")
    assert result.exit_code == 1
    assert "1 of 3 inputs done" in result.stderr
    assert (work / "out" / "a" / "run.json").read_bytes() == before


def test_a_model_that_is_not_there_is_said_once_before_any_is_run(work: Path) -> None:
    (work / "tiny.cellseg").unlink()
    result = infer("scans", "-o", "out")
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == 1
    assert "Shipped models:" in result.stderr
    assert not (work / "out").exists()


def test_a_finished_run_is_not_run_again_unless_it_is_asked_for(work: Path) -> None:
    infer("scans/a.png", "-o", "out")
    before = (work / "out" / "a" / "run.json").stat().st_mtime_ns
    assert "done already" in infer("scans/a.png", "-o", "out").stderr
    assert (work / "out" / "a" / "run.json").stat().st_mtime_ns == before
    infer("scans/a.png", "-o", "out", "--restart")
    assert (work / "out" / "a" / "run.json").stat().st_mtime_ns > before


def test_batch_and_workers_do_not_change_a_byte(work: Path) -> None:
    infer("scans/a.png", "-o", "one", "--tile", "32", "--batch", "1", "--workers", "1")
    infer("scans/a.png", "-o", "two", "--tile", "32", "--batch", "4", "--workers", "3")
    one, two = (run_json(work / folder / "a")["outputs"] for folder in ("one", "two"))
    assert one == two


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(infer_module, "infer_slide", interrupted)
    result = infer("scans", "-o", "out")
    assert result.exit_code == 130
    assert "hint: the same command goes on from there." in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("scans/a.png", "--tile", "33"), "multiple of the network's stride"),
        (("scans/a.png", "--max-ram", "10M"), "MiB"),
        (("scans/a.png", "--engine", "abacus"), "engine must be one of"),
        (("scans/a.png", "--blend", "smoothie"), "blend is crop, hann or gaussian"),
        (("scans/*.svs",), "matches no slide or image"),
    ],
    ids=["tile", "max-ram", "engine", "blend", "pattern"],
)
def test_what_cannot_be_run_is_refused_with_one_line(
    work: Path, args: tuple[str, ...], message: str
) -> None:
    fixed = ("--model", "tiny.cellseg", "-o", "out")
    result = CliRunner().invoke(app, ["infer", *args, *fixed])
    assert result.exit_code == 1
    assert "error: " in result.stderr
    assert "\nhint: " in result.stderr
    assert message in result.stderr
    assert not (work / "out" / "a" / "run.json").exists()


def wait_for_tiles(folder: Path) -> None:
    """Wait until some tiles are in the store or its write-ahead log."""
    for _ in range(2400):
        if sum(path.stat().st_size for path in folder.glob(".cellseg-run.sqlite*")) > 200_000:
            return
        time.sleep(0.025)
    pytest.fail("no tile was stored within 60 s")


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """Let child processes hear Ctrl-C, even where the tests run in the background, deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("heard_interrupts")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_ctrl_c_or_sigterm_keeps_tiles_and_the_same_command_goes_on(
    work: Path, repository: Path, number: signal.Signals
) -> None:
    make_bundle(work / "tiny.cellseg", mpp=0.5)
    slide = repository / "examples" / "cmu-1-small-region.svs"
    words = "infer {} --model tiny.cellseg -o out --engine onnxruntime --tile 32"
    command = [sys.executable, "-m", "cellseg", *words.format(slide).split()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        said = iter(run.stderr.readline, "")
        assert any("readers" in line for line in said)  # tiles begin
        wait_for_tiles(work / "out" / slide.stem)
        run.send_signal(number)
        rest = run.stderr.read()
    assert run.returncode == 130
    assert "Traceback" not in rest
    again = infer(str(slide), "-o", "out", "--tile", "32")
    assert again.exit_code == 0
    assert "resuming: " in again.stderr
