"""The folder of a result."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cellseg
from cellseg.errors import StoreError
from cellseg.runtime.run.result_folder import (
    LOG_NAME,
    check_apart,
    check_own,
    logged_to,
    made_folder,
    result_folder,
)


def test_folders_are_named_after_their_slides() -> None:
    assert result_folder("a/b.ome.tiff", "out") == Path("out/b")
    assert result_folder("a/b.c.svs", "out") == Path("out/b.c")
    assert result_folder("a/dicom-folder", "out") == Path("out/dicom-folder")
    assert result_folder("<array>", "out") == Path("out/_array_")


def test_no_name_leads_to_another_folder() -> None:
    for name in ("...png", "..png", "....tif"):
        assert result_folder(name, "out") == Path("out/slide")
    assert result_folder(".png", "out") == Path("out/.png")


@pytest.mark.parametrize(
    ("files", "refused"),
    [(("zarr.json",), ("", "x", "x/y")), (("a.dcm",), ("",)), ((), ("",))],
    ids=["zarr", "DICOM", "empty"],
)
def test_results_do_not_become_part_of_a_slide_that_is_a_folder(
    tmp_path: Path, files: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    slide = tmp_path / "case"
    slide.mkdir()
    for name in files:
        (slide / name).write_text("{}", encoding="utf-8")
    for place in ("", "x", "x/y", "../case-of-another", "../out/case"):
        if place not in refused:
            check_apart(slide / place, slide)
            continue
        with pytest.raises(StoreError, match="beside a slide that is a folder"):
            check_apart(slide / place, slide)


def test_a_folder_of_files_has_no_suffix_and_a_store_has(tmp_path: Path) -> None:
    for name in ("1.2.840.1", "a.zarr"):
        (tmp_path / name).mkdir()
    assert result_folder(tmp_path / "1.2.840.1", "out") == Path("out/1.2.840.1")
    assert result_folder(tmp_path / "a.zarr", "out") == Path("out/a")


def test_a_name_that_no_library_can_spell_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"the locale can spell.*\\udcfc") as caught,
        made_folder(tmp_path / "\udcfc"),
    ):
        pass
    assert "UTF-8 locale" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows spells every name")
def test_a_name_that_the_locale_cannot_spell_is_refused(tmp_path: Path) -> None:
    code = (
        "from cellseg.runtime.run.result_folder import made_folder, result_folder\n"
        "slide = b'\\xc3\\xb6.tif'.decode('ascii', 'surrogateescape')\n"
        "with made_folder(result_folder(slide, '.')): pass"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | plain | {"PYTHONPATH": str(Path(cellseg.__path__[0]).parent)},
    )  # fmt: skip
    assert "StoreError: Results must be written to a folder whose name" in answer.stderr


def test_a_log_that_cannot_be_kept_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / LOG_NAME).mkdir()
    with logged_to(tmp_path):
        logging.getLogger("cellseg.runtime").info("a line")
    assert "a line" in caplog.text
    assert list((tmp_path / LOG_NAME).iterdir()) == []


def test_what_fails_while_a_log_is_kept_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a disk is gone"), logged_to(tmp_path):
        raise OSError("a disk is gone")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StoreError("The disk is full."), "ERROR The disk is full."),
        (ValueError("no number"), "ERROR ValueError no number"),
        (KeyboardInterrupt(), "ERROR KeyboardInterrupt"),
    ],
)
def test_a_log_ends_with_why_a_run_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: BaseException, told: str
) -> None:
    def run() -> None:
        logging.getLogger("cellseg").info("begun")
        raise error

    with pytest.raises(type(error)), logged_to(tmp_path):
        run()
    assert (tmp_path / LOG_NAME).read_text(encoding="utf-8").splitlines()[-1].endswith(told)
    assert caplog.messages == ["begun"], "the console has it from who catches it"


def test_a_run_that_is_refused_at_once_leaves_no_log(tmp_path: Path) -> None:
    with pytest.raises(StoreError), logged_to(tmp_path):
        raise StoreError("The folder holds a finished run that differs.")
    assert not (tmp_path / LOG_NAME).exists()


def test_a_mask_that_no_run_made_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "image.png").touch()
    check_own(tmp_path)
    (tmp_path / "mask.png").touch()
    with pytest.raises(StoreError, match=r"no run made\. .*, with mask\.png\."):
        check_own(tmp_path)


@pytest.mark.parametrize("mark", ["run.json", "run.log", ".cellseg-run.sqlite"])
def test_what_a_run_made_may_be_replaced(tmp_path: Path, mark: str) -> None:
    (tmp_path / "mask.png").touch()
    (tmp_path / mark).touch()
    check_own(tmp_path)
