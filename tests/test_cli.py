"""The command line itself: help, usage, exit codes, where text goes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from cellseg import __version__
from cellseg.cli import app
from cellseg.commands.options import parse_bytes, parse_setting, parse_size

COMMANDS = (
    "infer",
    "verify",
    "inspect",
    "doctor",
    "train",
    "evaluate",
    "export",
    "data make-slide",
)


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "120", "TERM": "dumb"})


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_how_to_use_it(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"cellseg-cli {command}" in result.stdout or command == "doctor"


def test_no_arguments_show_the_commands() -> None:
    result = run()
    assert "infer" in result.output
    assert "doctor" in result.output


def test_version_is_printed() -> None:
    assert run("--version").stdout == f"cellseg {__version__}\n"


def test_python_dash_m_is_the_same_program() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "cellseg", "--version"], capture_output=True, text=True, check=True
    )
    assert answer.stdout == f"cellseg {__version__}\n"


@pytest.mark.parametrize(
    "args",
    [
        ("infer",),
        ("infer", "x.svs", "--no-such-option"),
        ("infer", "x.svs", "--max-ram", "much"),
        ("infer", "x.svs", "--tile", "big"),
        ("no-such-command",),
        ("data", "make-slide", "x.tif", "--images", ".", "--size", "huge"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (
            ("infer", "absent.svs"),
            "absent.svs: no such file or folder.",
            "Check its path.",
        ),
        (
            ("inspect", "absent.svs"),
            "absent.svs: no such file or folder.",
            "Check its path.",
        ),
        (("inspect", "absent.cellseg"), "name of a shipped model", "Shipped models:"),
        (("inspect", "absent.toml"), "a recipe is a TOML file", "shipped recipes: "),
        (("infer", ".", "--threshold", "1.5"), "A threshold lies between 0 and 1.", None),
        (("infer", ".", "--mpp", "-1"), "Microns per pixel must be positive", None),
        (("infer", ".", "--workers", "0"), "workers must be at least 1.", None),
        (("infer", ".", "--write", "clases"), "Received: write=clases.", "Did you mean 'classes'?"),
        (
            ("train", "nuclei"),
            "a shipped recipe needs the folder of its data.",
            "cellseg-cli train",
        ),
        (("infer", "."), "the folder holds no slide or image.", "Known suffixes:"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_our_errors_go_to_stderr_with_a_hint_and_exit_1(
    args: tuple[str, ...],
    message: str,
    hint: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    if hint is not None:
        assert f"\n\nhint: {hint}" in result.stderr


def test_a_truncated_slide_is_refused_by_name(tmp_path: Path, repository: Path) -> None:
    whole = (repository / "examples" / "cmu-1-small-region.svs").read_bytes()
    cut = tmp_path / "cut.svs"
    cut.write_bytes(whole[: len(whole) // 2])
    result = run("inspect", str(cut))
    assert result.exit_code == 1
    assert "cut.svs" in result.stderr


def test_inspect_says_what_a_slide_holds(repository: Path) -> None:
    result = run("inspect", str(repository / "examples" / "cmu-1-small-region.svs"))
    assert result.exit_code == 0
    assert "2220 x 2967 px" in result.stdout
    assert "0.499 x 0.499 µm" in result.stdout
    assert "jpeg" in result.stdout


def test_inspect_json_is_json_and_nothing_else(repository: Path) -> None:
    result = run("inspect", str(repository / "examples" / "cmu-1-small-region.svs"), "--json")
    facts = json.loads(result.stdout)
    assert (facts["kind"], facts["width_px"], len(facts["levels"])) == ("slide", 2220, 1)


def test_inspect_describes_a_recipe(repository: Path) -> None:
    path = repository / "cellseg" / "train" / "recipes" / "nuclei.toml"
    result = run("inspect", str(path), "--json")
    assert json.loads(result.stdout)["recipe"]["name"] == "nuclei"


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cellseg.export.export", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run("export", __file__, "-o", "x.cellseg", "--precision", "fp32")
    assert result.exit_code == 1
    assert "hint: pip install 'cellseg[export]'" in result.stderr


def test_a_train_setting_is_checked_before_anything_is_trained(tmp_path: Path) -> None:
    result = run("train", "nuclei", "--data", str(tmp_path), "--set", "fit.epoch=3")
    assert result.exit_code == 1
    assert "fit.epoch" in result.stderr
    assert "hint: did you mean 'epochs'?" in result.stderr


@pytest.mark.parametrize(
    ("text", "size"), [("2G", 2**31), ("1.5 MiB", 3 * 2**19), ("100k", 102400), ("7", 7)]
)
def test_sizes_are_read_in_binary_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("parse", [parse_bytes, parse_size, parse_setting])
def test_what_cannot_be_read_is_wrong_usage(parse: object) -> None:
    with pytest.raises(typer.BadParameter, match="looks like"):
        parse("=?")  # type: ignore[operator]


def test_ctrl_c_in_any_command_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cellseg.runtime.doctor.examine", interrupted)
    result = run("doctor")
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"


def test_sigterm_is_heard_as_ctrl_c_while_a_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def told_to_end() -> None:  # no real signal: threads of other tests would hear it, too
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        handler(signal.SIGTERM, None)

    monkeypatch.setattr("cellseg.runtime.doctor.examine", told_to_end)
    before = signal.getsignal(signal.SIGTERM)
    assert run("doctor").exit_code == 130
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "have room. Received: No space left"),
        (OSError(errno.ENOSPC, "No space left", "a.md"), "Received: a.md: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "a.md"), "a.md: Permission denied"),
    ],
    ids=str,
)
def test_what_the_system_refuses_is_an_error_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, refused: OSError, message: str
) -> None:
    def examine() -> None:
        raise refused

    monkeypatch.setattr("cellseg.runtime.doctor.examine", examine)
    result = run("doctor")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "hint: " in result.stderr


@pytest.mark.parametrize(
    "broken",
    [
        ImportError("libGL.so.1: cannot open shared object file"),
        ModuleNotFoundError("No module named 'cv2'", name="cv2"),
    ],
    ids=str,
)
def test_a_package_that_does_not_load_is_an_error_that_names_the_doctor(
    monkeypatch: pytest.MonkeyPatch, broken: ImportError
) -> None:
    def describe_slide(*_: object) -> None:
        raise broken

    monkeypatch.setattr("cellseg.runtime.inspect.describe_slide", describe_slide)
    result = run("inspect", "a.tif")
    assert result.exit_code == 1
    assert f"must load. Received: {type(broken).__name__}: {broken}." in result.stderr
    assert "hint: 'cellseg-cli doctor' says what is wrong" in result.stderr


@pytest.mark.parametrize(
    "fault",
    [OSError("of a library"), ImportError("no such name", name="cellseg.runtime.infer")],
    ids=repr,
)
def test_an_error_of_neither_files_nor_packages_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def examine() -> None:
        raise fault

    monkeypatch.setattr("cellseg.runtime.doctor.examine", examine)
    assert run("doctor").exception is fault


def test_a_closed_pipe_is_no_traceback(repository: Path) -> None:
    slide = repository / "examples" / "cmu-1-small-region.svs"
    command = f"{sys.executable} -m cellseg inspect {slide} --json | head -n 1"
    if os.name == "nt":
        pytest.skip("head is a Unix tool")
    answer = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert answer.stdout == "{\n"
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(("given", "used"), [(None, "1"), ("3", "3")])
def test_blas_of_our_own_process_has_one_thread_unless_the_user_says_so(
    given: str | None, used: str
) -> None:
    ask = (
        "import atexit, os, sys\n"
        "from cellseg.cli import main\n"
        "assert 'numpy' not in sys.modules\n"  # it reads the variable when it is loaded
        "atexit.register(lambda: print(os.environ['OPENBLAS_NUM_THREADS']))\n"
        "sys.argv = ['cellseg-cli', '--version']\n"
        "main()"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    if given is not None:
        environment["OPENBLAS_NUM_THREADS"] = given
    answer = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True, env=environment
    )
    assert answer.stdout.splitlines()[-1] == used


def test_help_breaks_lines_at_the_terminals_width_alone() -> None:
    result = CliRunner().invoke(app, ["infer", "--help"], env={"COLUMNS": "70"})
    lines = [line.strip() for line in result.stdout.splitlines()]
    start = next(n for n, line in enumerate(lines) if line.startswith("Nothing needs"))
    paragraph = lines[start : lines.index("", start)]
    assert all(len(line) > 45 for line in paragraph[:-1])  # none was broken twice
    assert "cellseg-cli infer slide.svs" in lines  # examples keep theirs


def cellseg_cli(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cellseg", *words],
        capture_output=True,
        text=True,
        encoding="ascii",
        errors="replace",
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | environment,
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_name_that_stdout_cannot_write_is_escaped(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "細胞.png"
    cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))
    for words in (("inspect", str(path)), ("infer", "--help")):
        done = cellseg_cli(*words, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_package_that_the_words_of_a_command_need_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / "pydantic.py").write_text("raise ImportError('libm.so.6: cannot be opened')")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    done = cellseg_cli("doctor", PYTHONPATH=path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: The packages that a run needs must load.")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_help_on_a_full_disk_is_an_error_too() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cellseg", "--help"], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert b"error: The disk must have room." in done.stderr
    assert b"Traceback" not in done.stderr
