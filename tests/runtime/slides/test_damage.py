"""Damaged tiles of a slide: named, and where it is asked for taken for background and reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.errors import EngineError, SlideError, StoreError
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.source_tiles import SourceTiles, TileGrid, UndecodableError, source_of
from cellseg.runtime.view.value_counts import count_image, count_samples, samples
from tests.bundles import make_bundle
from tests.fakes import fake_bundle, nuclei_picture, run_fake
from tests.slides import overwrite, scene, whole, write_pyramid

STORED_PX = 64
MPP = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}


def damage(path: Path, *tiles: int, level: int = 0) -> None:
    """Overwrite the beginning of stored tiles."""
    with tifffile.TiffFile(path) as tif:
        offsets = tif.series[0].levels[level].pages[0].dataoffsets  # type: ignore[union-attr]
    for tile in tiles:
        overwrite(path, offsets[tile], b"\0" * 40)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """Write a dark slide of 4 x 6 stored tiles."""
    path = tmp_path / "slide.tif"
    return write_pyramid(path, nuclei_picture(256, 384), subifds=True, compression="zlib", **MPP)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return fake_bundle(tmp_path / "fake.cellseg").path


def run(path: Path, out: Path, bundle: Path, **options: Any) -> Any:
    options = {"tile_px": 64, "tissue_mask": False, "kind": "IdentityEngine"} | options
    return run_fake(path, out, bundle, **options)[0]


def sums(result: Any) -> dict[str, str]:
    return {name: facts["sha256"] for name, facts in result.report["outputs"].items()}


def test_a_damaged_tile_stops_the_run_named_with_what_was_done_kept(
    tmp_path: Path, slide: Path, bundle: Path
) -> None:
    damage(slide, 16)
    with pytest.raises(SlideError) as caught:
        run(slide, tmp_path / "out", bundle, workers=1, batch=1)
    message = str(caught.value)
    assert "slide.tif: level 0: the tile at row 2, column 4 (y=128, x=256, byte " in message
    assert "(at tile " in message
    assert "--on-error skip" in str(caught.value.hint)
    log = (tmp_path / "out" / "slide" / "run.log").read_text(encoding="utf-8")
    assert "stopped after 0 of" not in log


def test_a_stopped_run_goes_on_past_the_damage_to_the_same_bytes(
    tmp_path: Path, slide: Path, bundle: Path
) -> None:
    damage(slide, 16)
    with pytest.raises(SlideError):
        run(slide, tmp_path / "a", bundle, workers=1, batch=1)
    resumed = run(slide, tmp_path / "a", bundle, on_error="skip")
    assert resumed.report["plan"]["tiles_resumed"] > 0
    assert sums(resumed) == sums(run(slide, tmp_path / "b", bundle, on_error="skip"))


def test_skipped_tiles_are_the_slides_ground_and_are_listed_once(
    tmp_path: Path, slide: Path, bundle: Path
) -> None:
    intact = tifffile.imread(run(slide, tmp_path / "a", bundle).files["classes.ome.tif"])
    damage(slide, 9, 16)
    result = run(slide, tmp_path / "b", bundle, on_error="skip", workers=4)
    expected = intact.copy()
    for row, col in ((1, 3), (2, 4)):
        expected[row * 64 : row * 64 + 64, col * 64 : col * 64 + 64] = 0
    assert np.array_equal(tifffile.imread(result.files["classes.ome.tif"]), expected)
    damaged = result.report["input"]["damaged_tiles"]
    places = [(tile["level"], tile["row"], tile["column"]) for tile in damaged["list"]]
    assert (damaged["count"], places) == (2, [(0, 1, 3), (0, 2, 4)])
    assert damaged["list"][0]["offset_bytes"] > 0


@pytest.mark.parametrize(("turned", "ground"), [(lambda a: a, 0), (lambda a: 255 - a, 255)])
def test_ground_is_black_on_a_dark_slide_and_white_on_a_bright_one(
    tmp_path: Path, turned: Callable[[Any], NDArray[np.uint8]], ground: int
) -> None:
    path, image = tmp_path / "a.tif", turned(nuclei_picture(256, 384))
    write_pyramid(path, image, subifds=True, compression="zlib")
    damage(path, 9)
    damage(path, 0, 1, level=2)  # all of it
    with closing(open_slide(path)) as opened:
        source = source_of(opened)
        assert source is not None
        source.skips_damage = True
        assert (whole(opened)[64:128, 192:256] == ground).all()


def test_batch_workers_and_memory_change_nothing_beside_damage(
    tmp_path: Path, slide: Path, bundle: Path
) -> None:
    damage(slide, 3, 9, 10, 23)
    runs = [
        run(slide, tmp_path / str(workers), bundle, on_error="skip", workers=workers, batch=batch)
        for workers, batch in ((1, 1), (4, 3))
    ]
    assert sums(runs[0]) == sums(runs[1])
    damaged = [result.report["input"]["damaged_tiles"] for result in runs]
    assert damaged[0] == damaged[1]


def test_the_list_of_damage_survives_a_resume(tmp_path: Path, slide: Path, bundle: Path) -> None:
    damage(slide, 0)
    with pytest.raises(EngineError):
        run(slide, tmp_path, bundle, kind="FailingEngine", on_error="skip", workers=1, batch=1)
    # What the second session reads does not touch that tile any more.
    result = run(slide, tmp_path, bundle, on_error="skip", write=("classes",))
    assert result.report["plan"]["tiles_resumed"] > 0
    assert result.report["input"]["damaged_tiles"]["count"] == 1


def test_a_run_with_damage_in_it_is_not_passed_off_as_whole(
    tmp_path: Path, slide: Path, bundle: Path
) -> None:
    damage(slide, 0)
    with pytest.raises(EngineError):
        run(slide, tmp_path, bundle, kind="FailingEngine", on_error="skip", workers=1, batch=1)
    with pytest.raises(StoreError, match="taken for background.* damaged tiles=1") as caught:
        run(slide, tmp_path, bundle)
    assert "--on-error skip" in str(caught.value.hint)
    run(slide, tmp_path, bundle, on_error="skip")
    with pytest.raises(StoreError, match="taken for background"):
        run(slide, tmp_path, bundle)


def test_a_whole_slide_gives_the_same_whatever_is_done_with_damage(
    tmp_path: Path, slide: Path, bundle: Path
) -> None:
    run(slide, tmp_path, bundle, on_error="skip")
    again = run(slide, tmp_path, bundle)
    assert again.was_done
    assert again.report["input"]["damaged_tiles"] == {"count": 0, "list": []}


def test_a_damaged_overview_is_reported_too(tmp_path: Path, slide: Path, bundle: Path) -> None:
    damage(slide, 0, level=2)
    with pytest.raises(SlideError, match="level 2: the tile at row 0, column 0"):
        run(slide, tmp_path, bundle, tissue_mask=True)
    result = run(slide, tmp_path, bundle, tissue_mask=True, on_error="skip")
    assert [tile["level"] for tile in result.report["input"]["damaged_tiles"]["list"]] == [2]


@pytest.mark.parametrize("levels", [(2,), (1, 2)])
def test_what_an_overview_lost_is_looked_for_in_a_finer_level(
    tmp_path: Path, slide: Path, bundle: Path, levels: tuple[int, ...]
) -> None:
    intact = run(slide, tmp_path / "a", bundle, tissue_mask=True)
    for level in levels:
        damage(slide, *range(24 // 4**level), level=level)
    result = run(slide, tmp_path / "b", bundle, tissue_mask=True, on_error="skip")
    assert result.report["plan"]["ground"] == "dark"
    assert sums(result) == sums(intact)


def test_values_are_counted_in_a_finer_level_where_one_is_damaged(tmp_path: Path) -> None:
    image = scene(2100, 2000)
    path = write_pyramid(tmp_path / "a.tif", image, subifds=True, compression="zlib")
    damage(path, 5, level=1)
    with closing(open_slide(path)) as opened:
        source = source_of(opened)
        assert source is not None
        source.skips_damage = True
        assert np.array_equal(count_samples(opened), count_image(image))
        assert sum(len(window) for window in samples(opened)) == 2100


def test_at_most_a_thousand_are_listed_and_all_are_counted(tmp_path: Path, bundle: Path) -> None:
    path = tmp_path / "many.tif"
    options = {"tile": (16, 16), "photometric": "rgb", "compression": "zlib", **MPP}
    tifffile.imwrite(path, scene(640, 640), **options)
    damage(path, *range(1, 1600))
    result = run(path, tmp_path / "out", bundle, on_error="skip", tile_px=640)
    damaged = result.report["input"]["damaged_tiles"]
    assert (damaged["count"], len(damaged["list"])) == (1599, 1000)


def test_where_nothing_can_be_read_the_ground_is_white() -> None:
    def decode(level: int, row: int, col: int) -> NDArray[np.uint8]:
        raise UndecodableError("all is lost")

    source = SourceTiles("a", [TileGrid(8, 8, 4, 4)], np.dtype(np.uint8), decode)
    source.skips_damage = True
    assert (source.window(0, (0, 0), (8, 8)) == 255).all()
    assert source.damaged_count == 4


def test_the_command_line_says_what_was_damaged(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "s.tif", nuclei_picture(256, 384), subifds=True,
                         compression="zlib", **MPP)  # fmt: skip
    damage(path, 9)
    model = make_bundle(tmp_path / "tiny.cellseg").path
    common = ["infer", str(path), "-o", str(tmp_path / "out"), "--no-tissue-mask"]
    common += ["--model", str(model), "--engine", "onnxruntime", "--precision", "fp32"]
    stopped = CliRunner().invoke(app, common)
    assert stopped.exit_code == 1
    assert "row 1, column 3" in stopped.output
    assert "hint: The file is damaged there" in stopped.output
    done = CliRunner().invoke(app, [*common, "--on-error", "skip"])
    assert done.exit_code == 0, done.output
    assert "damaged     1 stored tile taken for background: level 0, row 1, column 3" in done.output
    report = json.loads((tmp_path / "out" / "s" / "run.json").read_text(encoding="utf-8"))
    assert report["input"]["damaged_tiles"]["count"] == 1


def test_a_hole_inside_a_jpeg_tile_is_named_although_it_can_be_decoded(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", nuclei_picture(256, 384), subifds=True,
                         compression="jpeg")  # fmt: skip
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        offset, count = page.dataoffsets[9], page.databytecounts[9]
    overwrite(path, offset + count // 2, bytes(100))
    with closing(open_slide(path)) as opened:
        with pytest.raises(SlideError, match=r"row 1, column 3 .* hole of zero bytes"):
            whole(opened)
        opened.read_region(0, (0, 0), (64, 384))


def test_another_word_for_on_error_is_refused(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["infer", str(tmp_path), "--on-error", "ignore"])
    assert outcome.exit_code == 1
    assert "on_error is stop or skip" in outcome.output
