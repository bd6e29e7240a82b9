"""Which files a folder holds when outputs are asked for one after the other."""

from __future__ import annotations

import errno
import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from cellseg.errors import CellsegError, EngineError, StoreError
from cellseg.runtime.run.result_folder import result_folder
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.writers import overlay
from cellseg.runtime.writers.atomic import replacing
from cellseg.runtime.writers.facts import output_bytes, output_facts, remove_output
from tests.fakes import CELL_HEAD, fake_bundle, nuclei_picture, run_fake

if TYPE_CHECKING:
    from pathlib import Path

TILE_PX = 64


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return fake_bundle(tmp_path / "fake.cellseg").path


@pytest.fixture(scope="module")
def slide() -> ArraySlide:
    return ArraySlide(nuclei_picture(211, 305))


def run(slide: ArraySlide, out: Path, bundle: Path, *names: str, **options: Any) -> Any:
    options = {"kind": "IdentityEngine", "tile_px": TILE_PX, "write": names} | options
    return run_fake(slide, out, bundle, **options)


def test_one_more_output_takes_none_away(tmp_path: Path, bundle: Path, slide: ArraySlide) -> None:
    first, _ = run(slide, tmp_path / "a", bundle, "classes", "mask")
    more, engine = run(slide, tmp_path / "a", bundle, "probability")
    assert list(more.files) == ["classes.ome.tif", "probability.ome.tif", "mask.png"]
    assert engine.calls > 0
    for name, facts in first.report["outputs"].items():
        assert more.report["outputs"][name] == facts
    _, engine = run(slide, tmp_path / "a", bundle, "mask")
    assert engine is None


LATER = ("overlay", "overlay-pyramid", "mask", "colour-mask", "merged", "blurred-mask")


def test_what_the_maps_hold_is_added_without_the_model_and_in_the_same_bytes(
    tmp_path: Path, bundle: Path, slide: ArraySlide
) -> None:
    first, _ = run(slide, tmp_path / "a", bundle, "classes", "probability")
    later, engine = run(slide, tmp_path / "a", bundle, *LATER)
    assert (engine, later.was_done) == (None, False)
    at_once, _ = run(slide, tmp_path / "b", bundle, "classes", "probability", *LATER)
    assert later.report["outputs"] == at_once.report["outputs"]
    assert list(later.report["outputs"]) == list(at_once.report["outputs"])
    assert later.report["wall_s"] == first.report["wall_s"]
    written = json.loads((later.folder / "run.json").read_text(encoding="utf-8"))
    assert written == later.report
    again, _ = run(slide, tmp_path / "a", bundle, *LATER)
    assert again.was_done


def test_a_class_map_that_was_changed_is_not_trusted(
    tmp_path: Path, bundle: Path, slide: ArraySlide
) -> None:
    first, _ = run(slide, tmp_path, bundle, "classes")
    path = first.files["classes.ome.tif"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    later, engine = run(slide, tmp_path, bundle, "mask")
    assert engine is not None
    facts = first.report["outputs"]["classes.ome.tif"]
    assert later.report["outputs"]["classes.ome.tif"] == facts == output_facts(path)


def test_a_picture_of_cells_does_not_depend_on_what_else_is_written(tmp_path: Path) -> None:
    head = CELL_HEAD
    bundle = fake_bundle(tmp_path / "m.cellseg", head=head).path
    slide = ArraySlide(nuclei_picture(211, 305))
    pictures = ("overlay", "overlay-pyramid")
    alone, _ = run(slide, tmp_path / "a", bundle, *pictures)
    beside, _ = run(slide, tmp_path / "b", bundle, "classes", "labels", *pictures)
    run(slide, tmp_path / "c", bundle, "classes", "labels")
    later, engine = run(slide, tmp_path / "c", bundle, *pictures)
    assert engine is None  # from the labels in the folder
    assert later.report["outputs"] == beside.report["outputs"]
    assert alone.report["outputs"].items() <= beside.report["outputs"].items()
    run(slide, tmp_path / "d", bundle, "classes")
    _, engine = run(slide, tmp_path / "d", bundle, *pictures)
    assert engine is not None  # no labels there


@pytest.mark.parametrize("names", [("background", "nucleus"), ("background", "a", "b")])
def test_cells_on_the_edge_of_a_region_are_added_as_they_are_at_first(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    edge = {"type": "Polygon", "coordinates": [[[40, 30], [250, 50], [120, 190], [40, 30]]]}
    roi = tmp_path / "roi.geojson"
    roi.write_text(json.dumps(edge), encoding="utf-8")
    channels = [{"name": name, "class_index": index} for index, name in enumerate(names)]
    classes = [{"name": name, "color": [9, 9, 9]} for name in names]
    manifest = {"head": CELL_HEAD, "classes": classes, "channels": channels}
    bundle = fake_bundle(tmp_path / "m.cellseg", **manifest).path
    slide = ArraySlide(nuclei_picture(211, 305))
    is_one = len(names) == 2
    maps = ("classes", "probability", "labels") if is_one else ("classes", "labels")
    options = {"roi": roi, "kind": "IdentityEngine" if is_one else "TwoClassEngine"}
    at_once, _ = run(slide, tmp_path / "a", bundle, *maps, "csv", **options)
    assert min(at_once.report["cells"].values()) > 3
    run(slide, tmp_path / "b", bundle, *maps, **options)
    later, _ = run(slide, tmp_path / "b", bundle, "csv", **options)
    assert later.report["cells"] == at_once.report["cells"]
    assert later.files["cells.csv"].read_text() == at_once.files["cells.csv"].read_text()


def test_starting_over_makes_only_what_is_asked_for(
    tmp_path: Path, bundle: Path, slide: ArraySlide
) -> None:
    run(slide, tmp_path, bundle, "classes", "mask")
    result, _ = run(slide, tmp_path, bundle, "overlay", restart=True)
    assert list(result.files) == ["overlay.jpg"]
    assert not (result.folder / "mask.png").exists()


def test_what_was_there_comes_back_even_if_the_run_for_more_was_stopped(
    tmp_path: Path, bundle: Path, slide: ArraySlide
) -> None:
    run(slide, tmp_path, bundle, "classes", "mask")
    with pytest.raises(EngineError):
        run(slide, tmp_path, bundle, "probability", kind="FailingEngine")
    result, _ = run(slide, tmp_path, bundle, "overlay")
    assert list(result.files) == ["classes.ome.tif", "overlay.jpg", "mask.png"]


def test_probability_asked_for_later_needs_its_tiles_again(
    tmp_path: Path, bundle: Path, slide: ArraySlide
) -> None:
    with pytest.raises(EngineError):
        run(slide, tmp_path, bundle, "classes", kind="FailingEngine", workers=1, batch=1)
    result, engine = run(slide, tmp_path, bundle, "probability", "classes")
    plan = result.report["plan"]
    assert (plan["tiles_resumed"], engine.calls) == (0, plan["tiles_total"])
    grey = tifffile.imread(result.files["probability.ome.tif"])
    assert grey.any()
    np.testing.assert_array_equal(tifffile.imread(result.files["classes.ome.tif"]), grey > 127)


def test_probability_is_resumed_like_classes(
    tmp_path: Path, bundle: Path, slide: ArraySlide
) -> None:
    with pytest.raises(EngineError):
        run(slide, tmp_path / "a", bundle, "probability", kind="FailingEngine", workers=1, batch=1)
    resumed, _ = run(slide, tmp_path / "a", bundle, "probability")
    assert resumed.report["plan"]["tiles_resumed"] > 0
    clean, _ = run(slide, tmp_path / "b", bundle, "probability")
    assert resumed.report["outputs"] == clean.report["outputs"]


def test_an_unfinished_run_with_probability_serves_one_without(
    tmp_path: Path, bundle: Path, slide: ArraySlide
) -> None:
    with pytest.raises(EngineError):
        run(slide, tmp_path, bundle, "probability", kind="FailingEngine", workers=1, batch=1)
    result, _ = run(slide, tmp_path, bundle, "classes")
    assert result.report["plan"]["tiles_resumed"] > 0
    assert list(result.files) == ["classes.ome.tif"]


def test_another_blur_makes_the_file_again(tmp_path: Path, bundle: Path, slide: ArraySlide) -> None:
    first, _ = run(slide, tmp_path, bundle, "blurred-mask")
    assert first.report["outputs"]["blurred-mask.png"]["blur_px"] == 5
    same, engine = run(slide, tmp_path, bundle, "blurred-mask")
    assert (same.was_done, engine) == (True, None)
    other, _ = run(slide, tmp_path, bundle, "blurred-mask", blur_px=9)
    facts = [result.report["outputs"]["blurred-mask.png"] for result in (first, other)]
    assert facts[1]["blur_px"] == 9
    assert facts[0]["sha256"] != facts[1]["sha256"]


def test_a_picture_that_is_too_large_is_refused_before_a_tile_is_run(
    tmp_path: Path, bundle: Path, slide: ArraySlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from cellseg.runtime.jobs.outputs import OUTPUTS

    small = replace(OUTPUTS["mask"], limit_px=1000)
    monkeypatch.setitem(OUTPUTS, "mask", small)
    with pytest.raises(CellsegError, match="Output 'mask' is one flat picture"):
        run(slide, tmp_path, bundle, "mask", kind="FailingEngine")
    assert not result_folder(slide.path, tmp_path).exists()


def test_files_without_the_class_map_still_count_its_classes(
    tmp_path: Path, bundle: Path, slide: ArraySlide
) -> None:
    result, _ = run(slide, tmp_path, bundle, "mask")
    assert sum(each["pixels"] for each in result.report["classes"].values()) == 211 * 305


def test_a_writer_that_fails_leaves_no_part_behind(
    tmp_path: Path, bundle: Path, slide: ArraySlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no colours left")

    monkeypatch.setattr(overlay, "write_jpeg", fail)
    with pytest.raises(ValueError, match="no colours left"):
        run(slide, tmp_path, bundle, "overlay")
    assert not list(result_folder(slide.path, tmp_path).glob(".part-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no files")
def test_a_file_that_may_not_grow_is_no_full_disk(
    tmp_path: Path, bundle: Path, slide: ArraySlide
) -> None:
    import resource

    run(slide, tmp_path, bundle, "classes")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, before[1]))
    try:
        with pytest.raises(StoreError, match="allowed to grow.*limit=4096 bytes") as caught:
            run(slide, tmp_path, bundle, "merged")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "ulimit -f unlimited" in str(caught.value.hint)
    with (
        pytest.raises(StoreError, match="allowed to grow") as caught,
        replacing(tmp_path / "x.tif"),
    ):
        raise OSError(errno.EFBIG, "File too large")
    assert "another disk" in str(caught.value.hint)


def test_parts_of_a_run_that_was_killed_are_swept_away(
    tmp_path: Path, bundle: Path, slide: ArraySlide
) -> None:
    folder = result_folder(slide.path, tmp_path)
    (folder / ".part-classes.ome.zarr" / "0").mkdir(parents=True)
    (folder / ".part-overlay.tif").write_bytes(b"half")
    result, _ = run(slide, tmp_path, bundle, "mask")
    names = sorted(path.name for path in result.folder.iterdir())
    assert names == ["mask.png", "run.json", "run.log"]


def test_facts_of_a_folder_cover_names_and_contents(tmp_path: Path) -> None:
    digests = set()
    for index, names in enumerate((("a", "b/c"), ("a", "b"), ("a", "b/c"))):
        folder = tmp_path / str(index)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(name.encode())
        digests.add(output_facts(folder)["sha256"])
    assert len(digests) == 2
    assert output_facts(tmp_path / "0")["bytes"] == output_bytes(tmp_path / "0") == 4
    remove_output(tmp_path / "0")
    assert output_bytes(tmp_path / "0") is None


def test_facts_of_a_file_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    expected = {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    assert output_facts(tmp_path / "a") == expected
