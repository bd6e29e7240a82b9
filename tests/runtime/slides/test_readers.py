"""Which reader opens a file, and what none opens."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from cellseg.errors import SlideError
from cellseg.runtime.slides.readers import open_slide

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), float("inf")])
def test_mpp_that_is_not_positive_is_refused(tmp_path: Path, mpp: float) -> None:
    with pytest.raises(SlideError, match="must be positive"):
        open_slide(tmp_path / "a.tif", mpp)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"nowhere\.svs: no such file"):
        open_slide(tmp_path / "nowhere.svs")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the working folder")
def test_missing_file_is_named_where_the_working_folder_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(SlideError, match=r"nowhere\.svs: no such file") as caught:
        open_slide("nowhere.svs")
    assert "the working folder, which was removed" in str(caught.value.hint)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among its files")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(SlideError, match=r"a\.png: a slide must be a file or a folder"):
        open_slide(tmp_path / "a.png")


def test_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"")
    with pytest.raises(SlideError, match=r"a\.tif: the file is empty"):
        open_slide(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.xyz"])
def test_text_by_another_name_is_refused_with_the_list_of_formats(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("not an image\n")
    with pytest.raises(SlideError, match="not a slide or image") as caught:
        open_slide(tmp_path / name)
    assert "OME-TIFF" in str(caught.value.hint)


@pytest.mark.parametrize("place", [".", "slide"])
def test_of_a_folder_with_results_it_is_said_what_shows_them(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "run.json").touch()
    with pytest.raises(SlideError, match="with results") as caught:
        open_slide(tmp_path)
    assert f"report {tmp_path}" in str(caught.value.hint)


def test_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="a folder"):
        open_slide(tmp_path)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"PK\x03\x04" + bytes(200), "unpack it"),
        (b"\n<!DOCTYPE html><html>404</html>" * 9, "download went wrong"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "download went wrong"),
        (b"GIF89a" + bytes(200), "Give a slide"),
    ],
)
def test_a_stranger_is_refused_with_what_to_do(tmp_path: Path, data: bytes, hint: str) -> None:
    (tmp_path / "a.svs").write_bytes(data)
    with pytest.raises(SlideError, match="known format") as caught:
        open_slide(tmp_path / "a.svs")
    assert hint in str(caught.value.hint)
