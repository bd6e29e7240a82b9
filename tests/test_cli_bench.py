"""``cellseg-cli bench``: exit codes, what goes where, and errors with hints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cellseg.cli import app
from tests.bench.made_reports import MACHINE, made_report, made_row
from tests.bundles import make_bundle


def bench(*words: object) -> Any:
    return CliRunner().invoke(app, ["bench", *map(str, words)])


@pytest.fixture
def reports(tmp_path: Path) -> tuple[Path, Path]:
    before, after = tmp_path / "before", tmp_path / "after.json"
    before.mkdir()
    (before / "bench.json").write_text(made_report(made_row(times_ms=100)).to_json())
    after.write_text(made_report(made_row(times_ms=130, seed=1)).to_json())
    return before, after


def test_a_regression_is_exit_code_1_and_named(reports: tuple[Path, Path]) -> None:
    result = bench("compare", *reports, "--fail-if", "p99>+5%")
    assert result.exit_code == 1
    assert "error: No condition may be met" in result.stderr
    assert "regression: tile-single/nuclei/openvino/fp32" in result.stdout
    assert bench("compare", *reversed(reports), "--fail-if", "p99>+5%").exit_code == 0
    assert bench("compare", *reports).exit_code == 0


def test_a_comparison_is_json_for_programs(reports: tuple[Path, Path]) -> None:
    result = bench("compare", *reports, "--json", "--fail-if", "p50>+5%,rss>+50%")
    found = json.loads(result.stdout)
    assert [item["metric"] for item in found["regressions"]] == ["p50"]
    (p50,) = [change for change in found["changes"] if change["metric"] == "p50"]
    assert 1.2 < p50["low"] < p50["ratio"] < p50["high"] < 1.4


def test_no_regression_is_said_only_of_conditions_that_were_held_against(
    reports: tuple[Path, Path],
) -> None:
    held = bench("compare", *reports, "--fail-if", "rss>+50%")
    assert (held.exit_code, "no regression" in held.stdout) == (0, True)
    not_held = bench("compare", *reports, "--fail-if", "misses>+0.1")
    assert (not_held.exit_code, "no regression" in not_held.stdout) == (1, False)
    assert "hint: Frames are missed in the scenario stream." in not_held.stderr
    assert json.loads(bench("compare", *reports, "--fail-if", "rss>+50%", "--json").stdout)


def test_two_machines_are_warned_of_and_not_judged(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_text(made_report(made_row()).to_json())
    other.write_text(made_report(made_row(), machine=MACHINE | {"cpu": "Other"}).to_json())
    plain = bench("compare", one, other)
    assert plain.exit_code == 0
    assert "warning: another machine: cpu: Some CPU and Other" in plain.stderr
    assert bench("compare", one, other, "--fail-if", "p50>+5%").exit_code == 1
    assert bench("compare", one, other, "--fail-if", "p50>+5%", "--other-machine").exit_code == 0


def test_another_schema_is_refused_with_a_hint(reports: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "old.json"
    other.write_text('{"schema": "cellseg.bench/0"}')
    result = bench("compare", other, reports[1])
    assert result.exit_code == 1
    assert "Received: schema='cellseg.bench/0'" in result.stderr
    assert "hint:" in result.stderr


def test_pages_are_made_again_and_tables_filled(reports: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("top\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nbottom\n")
    assert bench("report", reports[0], "--fill", page).exit_code == 0
    assert (reports[0] / "bench.html").read_text().startswith("<!doctype html>")
    text = page.read_text()
    assert text.startswith("top\n")
    assert text.endswith("bottom\n")
    assert "old" not in text
    assert "| nuclei | openvino | fp32 | 1024 |" in text


def test_pages_of_several_reports_do_not_overwrite_each_other(
    reports: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "bench.json").write_bytes(reports[1].read_bytes())
    refused = bench("report", reports[0], other, "-o", tmp_path / "pages")
    assert refused.exit_code == 1
    assert "Received: 2 reports for 1 of them." in refused.stderr
    assert not (tmp_path / "pages").exists()
    assert bench("report", reports[0], reports[1], "-o", tmp_path / "pages").exit_code == 0
    names = sorted(path.name for path in (tmp_path / "pages").iterdir())
    assert names == ["after.html", "after.md", "bench.html", "bench.md"]


def test_a_page_without_marks_is_not_touched(reports: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("nothing here\n")
    result = bench("report", reports[1], "--fill", page)
    assert result.exit_code == 1
    assert "must have the marks" in result.stderr
    assert page.read_text() == "nothing here\n"


def test_many_machines_become_one_table(tmp_path: Path) -> None:
    paths = []
    for cpu in ("Laptop", "Server"):
        paths.append(tmp_path / f"{cpu}.json")
        paths[-1].write_text(made_report(machine=MACHINE | {"cpu": cpu}).to_json())
    table = bench("merge", *paths).stdout
    head = next(line for line in table.splitlines() if line.startswith("| contestant"))
    assert "1. Laptop x4: MP/s" in head
    assert "2. Server x4: p50, ms" in head
    assert "| slide/nuclei/openvino/int8/tile1024/batch1/threads-all |" in table
    assert "done" not in table
    assert table.count("| 0.900, 0.800 |\n") == 10


def test_what_no_machine_measured_has_no_line_in_the_table(tmp_path: Path) -> None:
    absent = made_row(engine="tensorrt").model_copy(update={"status": "unavailable", "rounds": ()})
    path = tmp_path / "a.json"
    path.write_text(made_report(made_row(), absent).to_json())
    table = bench("merge", path, path).stdout
    assert "openvino/fp32" in table
    assert "tensorrt" not in table


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--engine", "tensorflow"), 1, "Engines are auto, openvino"),
        (("--scenario", "night"), 1, "Scenarios are tile-single"),
        (("--tile", "512,big"), 2, "Received: 512"),
        (("--accuracy-set", "none=absent"), 1, "An accuracy set must hold images"),
        (("--model", "absent.cellseg"), 1, "absent.cellseg"),
        (("--slide", "absent.svs"), 1, "absent.svs"),
    ],
)
def test_wrong_input_is_one_clear_line(words: tuple[str, ...], code: int, said: str) -> None:
    result = bench(*words, "-o", "never-written")
    assert result.exit_code == code
    assert said in result.stderr.replace("\n", " ")
    assert not Path("never-written").exists()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    result = bench("--model", "absent.cellseg", "-o", tmp_path / "file" / "today")
    assert result.exit_code == 1
    assert "a folder that can be written" in result.stderr.replace("\n", " ")


def test_a_job_queue_that_ends_a_benchmark_gets_the_rounds_that_are_done(tmp_path: Path) -> None:
    make_bundle(tmp_path / "tiny.cellseg")
    words = ["--model", "tiny.cellseg", "--engine", "onnxruntime", "--tile", "64", "--rounds", "2"]
    words += ["--no-roofline", "--scenario", "tile-single,tile-offline", "--min-duration", "0.05"]
    command = [sys.executable, "-m", "cellseg", "bench", *words, "-o", "out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        next(line for line in run.stderr if line.startswith(b"1/"))
        run.terminate()
        run.stderr.read()
        assert run.wait() == 130
    report = json.loads((tmp_path / "out/bench.json").read_text())
    assert report["status"] == "interrupted"
    assert len(report["rows"][0]["rounds"]) == 1


def test_a_matrix_is_measured_into_three_files(tmp_path: Path) -> None:
    make_bundle(tmp_path / "tiny.cellseg")
    words = ["--model", "tiny.cellseg", "--engine", "onnxruntime", "--tile", "64", "--rounds", "1"]
    words += [
        "--no-roofline",
        "--scenario",
        "tile-single",
        "--min-duration",
        "0.05",
        "--min-samples",
        "1",
    ]
    command = [sys.executable, "-m", "cellseg", "bench", *words, "-o", "out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "## tile-single" in done.stdout
    assert "tile-single/tiny/onnxruntime/fp32/tile64/batch1/threads-all, round 1" in done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["bench.html", "bench.json", "bench.md"]
    report = json.loads((tmp_path / "out/bench.json").read_text())
    assert report["schema"] == "cellseg.bench/1"
    assert report["rows"][0]["rounds"][0]["samples_ms"]
    assert report["rows"][0]["energy"] is None or report["rows"][0]["energy"]["joule"] > 0
