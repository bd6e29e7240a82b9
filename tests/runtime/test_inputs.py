from __future__ import annotations

from pathlib import Path

import pytest

from cellseg.errors import SlideError
from cellseg.runtime.inputs import expand_inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.svs", "a.tif", "c.PNG", "notes.txt", "deep/d.tif"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_gives_its_slides_sorted_and_nothing_else(folder: Path) -> None:
    assert names(expand_inputs([str(folder)])) == ["a.tif", "b.svs", "c.PNG"]


def test_a_glob_may_reach_into_folders(folder: Path) -> None:
    assert names(expand_inputs([f"{folder}/**/*.tif"])) == ["a.tif", "d.tif"]


def test_a_file_named_twice_is_run_once(folder: Path) -> None:
    slide = folder / "a.tif"
    assert expand_inputs([str(slide), f"{folder}/*.tif"]) == [slide]


def test_a_file_named_in_full_and_from_here_is_run_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert expand_inputs(["a.tif", str(folder / "a.tif")]) == [Path("a.tif")]


def test_a_file_named_by_way_of_another_folder_is_run_once(folder: Path) -> None:
    around = folder / "deep" / ".." / "a.tif"
    assert expand_inputs([str(folder / "a.tif"), str(around)]) == [folder / "a.tif"]


def test_a_link_to_its_own_folder_gives_each_file_once(folder: Path) -> None:
    (folder / "deep" / "back").symlink_to(folder)
    found = [folder / "a.tif", folder / "deep" / "d.tif"]
    assert expand_inputs([f"{folder}/**/*.tif"]) == found
    everything = expand_inputs([f"{folder}/**"])  # the link is no file, however far down
    assert "back" not in names(everything)
    assert set(found) <= set(everything)


def test_a_link_to_a_file_is_an_input_of_its_own_name(folder: Path) -> None:
    (folder / "link.tif").symlink_to(folder / "a.tif")
    assert names(expand_inputs([f"{folder}/*.tif"])) == ["a.tif", "link.tif"]


def test_a_link_to_what_is_not_there_is_an_input_that_will_fail(folder: Path) -> None:
    (folder / "gone.tif").symlink_to(folder / "elsewhere.tif")
    assert "gone.tif" in names(expand_inputs([str(folder)]))
    assert "gone.tif" in names(expand_inputs([f"{folder}/*.tif"]))
    with pytest.raises(SlideError, match=r"gone.tif: a link to .*elsewhere.tif, which is not"):
        expand_inputs([str(folder / "gone.tif")])


def test_an_empty_text_is_not_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SlideError, match="Received: an empty text"):
        expand_inputs(["", "a.tif"])


def test_a_file_is_taken_whatever_its_suffix(folder: Path) -> None:
    assert names(expand_inputs([str(folder / "notes.txt")])) == ["notes.txt"]


def test_a_folder_of_dicom_files_is_one_slide(tmp_path: Path) -> None:
    for name in ("level0.dcm", "level1.dcm"):
        (tmp_path / name).touch()
    assert expand_inputs([str(tmp_path)]) == [tmp_path]


def test_what_earlier_runs_made_is_no_input(folder: Path) -> None:
    for name in ("out/a/run.json", "out/a/classes.ome.tif", "out/a/mine.tif", "classes.ome.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    found = expand_inputs([f"{folder}/**/*.tif"])
    assert found == [folder / name for name in ("a.tif", "classes.ome.tif", "deep/d.tif",
                                                "out/a/mine.tif")]  # fmt: skip
    assert names(expand_inputs([str(folder / "out" / "a")])) == ["mine.tif"]
    assert names(expand_inputs([f"{folder}/out/a/*"])) == ["mine.tif"]
    made = folder / "out" / "a" / "classes.ome.tif"
    assert expand_inputs([str(made)]) == [made]  # who names it wants it


def test_hidden_files_of_a_folder_are_left_alone(folder: Path) -> None:
    (folder / "._a.tif").touch()
    assert names(expand_inputs([str(folder)])) == ["a.tif", "b.svs", "c.PNG"]


def test_a_misspelled_file_names_its_neighbour(folder: Path) -> None:
    with pytest.raises(SlideError, match="no such file") as caught:
        expand_inputs([str(folder / "b.sv")])
    assert caught.value.hint == f"Did you mean {folder / 'b.svs'}?"


@pytest.mark.parametrize("pattern", ["", "*.svs"])
def test_an_empty_folder_or_pattern_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(SlideError, match="no slide or image"):
        expand_inputs([str(tmp_path / pattern)])
