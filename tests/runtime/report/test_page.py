"""The page of a run: what it says, and that nothing of it lies elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.errors import StoreError
from cellseg.runtime.report.facts import analysed_mm2, class_facts, warnings_of
from cellseg.runtime.report.folder import RunFolder, find_runs
from cellseg.runtime.report.page import write_report
from tests.runtime.report.runs import finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run"))


def change_run(folder: Path, **changes: Any) -> dict[str, Any]:
    path = folder / "run.json"
    found = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(found), encoding="utf-8")
    return dict(found)


def headings(page: Path) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page.read_text(encoding="utf-8"))


def test_a_page_has_all_its_parts(run: Path) -> None:
    page = write_report(run)
    assert page == run / "report.html"
    found = headings(page)
    for part in ("Overview", "Density", "Classes", "Measurements", "Gallery", "Provenance"):
        assert part in found


def test_a_page_says_what_run_json_says(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    text = write_report(run).read_text(encoding="utf-8")
    assert f"<b>{facts['cells']['nucleus']:,}</b><span>cells</span>" in text
    assert facts["model"]["sha256"] in text
    for name, entry in facts["outputs"].items():
        assert f"<code>{name}</code>" in text
        assert entry["sha256"] in text


def test_a_class_has_its_share_of_the_tissue_that_densities_are_of(run: Path) -> None:
    found = json.loads((run / "run.json").read_text(encoding="utf-8"))
    found["plan"]["tissue_fraction"] = 0.5
    (facts,) = class_facts(found)
    analysed = analysed_mm2(found)
    assert analysed is not None
    assert facts.area_mm2 is not None
    assert facts.area_share == pytest.approx(facts.area_mm2 / analysed, rel=1e-3)


def test_names_are_escaped(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    assert "<title>cellseg: a &amp; b.png</title>" in text
    assert "a & b" not in text


def test_a_name_that_is_no_utf8_has_a_page(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(run, folder)
    report = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    change_run(folder, input=report["input"] | {"path": "pr\udce9.png"})
    assert "pr\\udce9.png" in write_report(folder).read_text(encoding="utf-8")


def test_nothing_lies_outside_the_page(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="(.*?)"', text))
    assert "default-src 'none'" in text
    assert "url(" not in text


def test_a_model_without_cells_has_a_page(tmp_path: Path) -> None:
    found = headings(write_report(finished_run(tmp_path, cells=False)))
    assert "Gallery" not in found
    assert {"Overview", "Classes", "Engine and speed"} <= set(found)


def test_a_slide_without_pixel_size_is_measured_in_pixels(tmp_path: Path) -> None:
    page = write_report(finished_run(tmp_path, mpp=None))
    text = page.read_text(encoding="utf-8")
    assert "does not say how large its pixels are" in text
    assert "area, pixels" in text
    assert "cells/Mpx" in text


def test_a_slide_that_has_gone_leaves_counts_and_overview(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = finished_run(tmp_path)
    (tmp_path / "a & b.png").unlink()
    found = headings(write_report(folder))
    assert "pictures of the slide are left out" in caplog.text
    assert "Gallery" not in found
    assert {"Overview", "Density", "Measurements"} <= set(found)


def test_a_slide_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished_run(tmp_path)
    given = change_run(folder)["input"]
    change_run(folder, input=given | {"path": "a & b.png"})
    monkeypatch.chdir(folder)
    assert "Gallery" in headings(write_report(Path()))


def test_damage_is_told_before_the_numbers(tmp_path: Path) -> None:
    folder = finished_run(tmp_path)
    given = json.loads((folder / "run.json").read_text(encoding="utf-8"))["input"]
    tile = {"level": 0, "row": 3, "column": 4}
    change_run(folder, input=given | {"damaged_tiles": {"count": 2, "list": [tile, tile]}})
    text = write_report(folder).read_text(encoding="utf-8")
    assert "2 stored tiles of the slide are damaged" in text
    assert "level 0, row 3, column 4" in text


def test_cells_far_larger_than_the_others_are_told(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, hw=(300, 400))
    with RunFolder(folder) as opened:
        assert opened.cells is not None
        assert warnings_of(opened) == []
        giant = np.array(opened.cells["area_px"])
        giant[3] *= 100
        opened.cells = {**opened.cells, "area_px": giant}
        (text,) = warnings_of(opened)
    assert "1 cell is more than 20 times as large" in text
    assert "cell 4 at x=" in text


def test_regions_are_listed_with_their_densities(tmp_path: Path) -> None:
    folder = finished_run(tmp_path)
    region = {
        "name": "tumour <1>", "area_mm2": 0.25, "counts": {"nucleus": 50}, "density_per_mm2": 200.0,
    }  # fmt: skip
    summary = {
        "total": 50, "density_per_mm2": 200.0, "histograms": {}, "roi": [region],
        "larger_than_a_region": 2,
    }  # fmt: skip
    change_run(folder, cells_summary=summary)
    text = write_report(folder).read_text(encoding="utf-8")
    assert "2 cells are more than 512 pixels long" in text
    assert re.search(
        r"tumour &lt;1&gt;</td><td class=\"n\">0.25</td><td class=\"n\">50 <small>200/mm²<", text
    )


def test_no_cells_at_all_make_a_page_that_says_so(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((80, 90, 3), np.uint8))
    page = write_report(finished_run(tmp_path, image="black.png"))
    assert "No cells were found." in page.read_text(encoding="utf-8")
    assert "Density" not in headings(page)


def test_a_table_of_text_serves_as_well(run: Path, tmp_path: Path) -> None:
    page = write_report(finished_run(tmp_path, write=("classes", "overlay", "csv")))
    assert headings(page) == headings(write_report(run))


def test_a_run_that_wrote_next_to_nothing_has_a_page(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, write=("mask",))
    (tmp_path / "a & b.png").unlink()
    found = headings(write_report(folder))
    assert found == ["Classes", "Engine and speed", "Provenance"]


def test_without_a_table_counts_and_histograms_of_run_json_are_left(tmp_path: Path) -> None:
    folder = finished_run(tmp_path)
    next(folder.glob("cells.parquet")).unlink()
    found = headings(write_report(folder))
    assert {"Classes", "Measurements"} <= set(found)
    assert not {"Density", "Gallery"} & set(found)


def test_histograms_without_a_table_are_of_no_class_where_there_are_several(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, write=("classes", "labels"))
    assert "<title>nucleus, " in write_report(folder).read_text(encoding="utf-8")
    classes = json.loads((folder / "run.json").read_text(encoding="utf-8"))["classes"]
    change_run(folder, classes=classes | {"other": classes["nucleus"]})
    text = write_report(folder).read_text(encoding="utf-8")
    assert "<title>all classes, " in text
    assert "<title>nucleus, " not in text


@pytest.mark.parametrize("text", ["{", '{"schema": "other/1"}', "[]"])
def test_another_run_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(StoreError, match="Received:"):
        write_report(tmp_path)


def test_runs_are_found_by_their_folder_or_the_one_above(run: Path, tmp_path: Path) -> None:
    assert find_runs([run]) == find_runs([run.parent]) == find_runs([run, run.parent]) == [run]
    (nothing,) = find_runs([tmp_path])
    with pytest.raises(StoreError, match="run.json in it"):
        write_report(nothing)


def test_the_command_makes_a_page_for_each_result_and_one_that_compares(tmp_path: Path) -> None:
    folders = [finished_run(tmp_path / name, mpp=None) for name in ("one", "two")]
    result = CliRunner().invoke(app, ["report", *map(str, folders)])
    assert result.exit_code == 0
    pages = [Path(line) for line in result.stdout.splitlines()]
    assert [page.parent for page in pages] == [*folders, tmp_path.resolve()]
    index = pages[-1].read_text(encoding="utf-8")
    assert "2 slides" in index
    assert index.count("does not say how large its pixels are") == 1  # said of both at once
    links = re.findall(r'href="(?!data)(.*?)"', index)
    assert links[0] == "one/out/a%20%26%20b/report.html"


def test_a_result_that_cannot_be_shown_does_not_stop_the_others(tmp_path: Path) -> None:
    good = finished_run(tmp_path / "good", mpp=None)
    other = shutil.copytree(good, tmp_path / "bad")
    change_run(other, plan=None)
    result = CliRunner().invoke(app, ["report", str(good), str(other), str(tmp_path / "page.html")])
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == 2
    assert f"no plan in {other / 'run.json'}" in result.stderr
    assert "1 of 3 results have a page" in result.stderr
    assert Path(result.stdout.splitlines()[0]) == good / "report.html"


@pytest.mark.parametrize("name", ["cells.parquet", "labels.ome.tif", "classes.ome.tif"])
def test_a_file_that_was_cut_short_is_left_out(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    folder = shutil.copytree(run, tmp_path / "copy")
    (folder / name).write_bytes((run / name).read_bytes()[:100])
    assert "Classes" in headings(write_report(folder))
    assert caplog.text.count(f"{name} has changed since the run") == 1


@pytest.mark.parametrize("part", ["wall_s", "plan", "outputs", "provenance"])
def test_a_run_json_that_lacks_a_part_is_refused_by_its_name(
    run: Path, tmp_path: Path, part: str
) -> None:
    folder = shutil.copytree(run, tmp_path / "copy")
    change_run(folder, **{part: None})
    with pytest.raises(StoreError, match=f"no {part} in"):
        write_report(folder)


@pytest.mark.parametrize("name", ["slide.png", "", "."])
def test_a_page_is_never_written_over_a_file_of_another_kind(
    run: Path, tmp_path: Path, name: str
) -> None:
    slide = tmp_path / "slide.png"
    slide.write_bytes(b"an image")
    result = CliRunner().invoke(app, ["report", str(run), "-o", name and str(tmp_path / name)])
    assert result.exit_code == 2
    assert "FILE.html" in result.stderr
    assert slide.read_bytes() == b"an image"


def test_paths_of_pages_are_relative_as_the_results_are(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        shutil.copytree(run, tmp_path / "out" / name)
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["report", "out"]).stdout.split()
    assert said == [str(Path("out", *name, "report.html")) for name in (["a"], ["b"], [])]
