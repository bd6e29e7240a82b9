"""A slide played as a camera and put together again."""

from __future__ import annotations

import errno
import itertools
import json
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg import LiveSession
from cellseg.errors import SlideError, StoreError
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.frame_cells import CELL_DTYPE
from cellseg.live.mosaic.kept import KeptFrames
from cellseg.live.mosaic.ledger import CellLedger
from cellseg.live.mosaic.mosaic import Mosaic
from cellseg.live.mosaic.scan import Scan
from cellseg.live.mosaic.write import write_mosaic
from cellseg.live.run import LiveOptions, LiveRun
from cellseg.live.sources.recording import RecordingSource
from cellseg.live.sources.slide_camera import SlideCamera, SlideCameraOptions
from cellseg.runtime.infer import infer_slide
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import ArraySlide
from tests.fakes import nuclei_picture

PALETTE = ((0, 0, 0), (0, 255, 0))
PICTURE = nuclei_picture(620, 700, seed=4)


def play(jitter: float = 8, picture: Any = PICTURE, **options: Any) -> SlideCamera:
    known = SlideCameraOptions((256, 256), overlap=0.15, jitter_px=jitter, **options)
    return SlideCamera(ArraySlide(picture, 0.5), known)


def mosaic_of(camera: SlideCamera, path: Path) -> Any:
    mosaic = Mosaic(path, camera.mpp)
    for frame in camera.frames(Event()):
        mosaic.add(frame)
    return mosaic


def test_frames_of_a_stage_that_misses_are_placed_to_the_pixel(tmp_path: Path) -> None:
    camera = play()
    slide = mosaic_of(camera, tmp_path / "x.ome.tif").finish()
    places = np.array([frame.yx for frame in slide.frames])
    truth = np.array([camera.truth_yx[frame.frame_id] for frame in slide.frames])
    off = places - truth
    assert (off == off[0]).all()
    missed = np.array(camera.path_yx) - truth
    assert np.abs(missed).max() > 2


def test_a_dim_stain_that_is_painted_is_registered_as_in_grey(tmp_path: Path) -> None:
    dim = PICTURE // 64  # a third of that has next to no contrast
    pairs = []
    for name, paint in (("grey", (1, 1, 1)), ("blue", (0, 0, 1)), ("cyan", (0, 1, 1))):
        mosaic = mosaic_of(play(picture=dim * np.array(paint, np.uint8)), tmp_path / name / "x")
        mosaic.finish()
        pairs.append(mosaic.link_count)
    assert pairs[0] == pairs[1] == pairs[2] > 0


def test_the_mosaic_is_the_slide(tmp_path: Path) -> None:
    slide = mosaic_of(play(jitter=0), tmp_path / "x.ome.tif").finish()
    assert (slide.levels[0].height_px, slide.levels[0].width_px) == PICTURE.shape[:2]
    for y, x, h, w in [(0, 0, 620, 700), (200, 230, 90, 60), (619, 699, 1, 1)]:
        np.testing.assert_array_equal(
            slide.read_region(0, (y, x), (h, w)), PICTURE[y : y + h, x : x + w]
        )


def test_the_file_is_a_pyramid_that_holds_the_slide(tmp_path: Path) -> None:
    path = tmp_path / "x.ome.tif"
    mosaic = mosaic_of(play(jitter=0), path)
    write_mosaic(path, mosaic.finish())
    mosaic.remove_frames()
    assert [file.name for file in tmp_path.iterdir()] == ["x.ome.tif"]
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(file.asarray(), PICTURE)
    slide = open_slide(path)
    assert slide.mpp == (0.5, 0.5)
    assert len(slide.levels) == 2
    slide.close()


def test_what_no_frame_shows_is_ground(tmp_path: Path) -> None:
    mosaic = Mosaic(tmp_path / "x.ome.tif")
    bright = np.full((40, 40, 3), 230, np.uint8)
    for number, x_um in enumerate((0.0, 100.0)):
        mosaic.add(Frame(bright, FrameMeta(number, 0, (x_um, 0.0, 0.0))))
    slide = mosaic.finish()
    assert slide is not None
    assert slide.read_region(0, (0, 60), (1, 1)).tolist() == [[[255, 255, 255]]]


def test_frames_without_a_place_or_of_another_channel_are_left_out(tmp_path: Path) -> None:
    mosaic = Mosaic(tmp_path / "x.ome.tif")
    pixels = PICTURE[:50, :50]
    mosaic.add(Frame(pixels, FrameMeta(0, 0)))
    mosaic.add(Frame(pixels, FrameMeta(1, 0, (0.0, 0.0, 0.0), "DAPI")))
    mosaic.add(Frame(pixels, FrameMeta(2, 0, (9.0, 0.0, 0.0), "GFP")))
    slide = mosaic.finish()
    assert slide is not None
    assert [frame.frame_id for frame in slide.frames] == [1]
    assert mosaic.left_out == 2


@pytest.mark.parametrize("astray", [float("nan"), float("inf"), -1e300], ids=str)
def test_a_stage_that_gives_no_number_loses_its_frame_alone(tmp_path: Path, astray: float) -> None:
    mosaic = Mosaic(tmp_path / "x.ome.tif")
    for number, x_um in enumerate((0.0, astray, 9.0)):
        mosaic.add(Frame(PICTURE[:50, :50], FrameMeta(number, 0, (x_um, 0.0, 0.0))))
    slide = mosaic.finish()
    assert slide is not None
    assert [frame.frame_id for frame in slide.frames] == [0, 2]
    assert mosaic.left_out == 1


def test_a_mosaic_that_one_wrong_position_made_too_large_is_refused_and_its_frames_kept(
    tmp_path: Path,
) -> None:
    scan = Scan("a", tmp_path, options_for(tmp_path), (), PALETTE, 0.5, may_wait=True)
    for number, x_um in enumerate((0.0, 9.0, 1e7)):
        scan.add(Frame(PICTURE[:50, :50], FrameMeta(number, 0, (x_um, x_um, 0.0))))
    with pytest.raises(StoreError, match="the farthest one is frame 2") as refused:
        scan.finish()
    assert f"recording:{tmp_path / 'a'}" in str(refused.value.hint)
    assert len(list(RecordingSource(tmp_path / "a").frames(Event()))) == 3


def cells_at(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    table = np.zeros(len(boxes), CELL_DTYPE)
    for row, (y0, x0, y1, x1) in zip(table, boxes, strict=True):
        row["y0_px"], row["x0_px"], row["y1_px"], row["x1_px"] = y0, x0, y1, x1
        row["y_px"], row["x_px"] = (y0 + y1) / 2, (x0 + x1) / 2
        row["class_index"] = 1
    return table


def test_a_cell_in_an_overlap_counts_once() -> None:
    ledger = CellLedger(2)
    ledger.add(cells_at((20, 70, 30, 80)), (0, 0), (100, 100))
    ledger.add(cells_at((20, 10, 30, 20), (50, 50, 60, 60)), (0, 60), (100, 100))
    assert ledger.counts.tolist() == [0, 2]


def test_a_cell_that_one_frame_cuts_counts_in_the_one_that_shows_it_whole() -> None:
    ledger = CellLedger(2)
    ledger.add(cells_at((20, 95, 30, 100)), (0, 0), (100, 100))
    assert ledger.counts.tolist() == [0, 1]
    ledger.add(cells_at((20, 35, 30, 45)), (0, 60), (100, 100))
    assert ledger.counts.tolist() == [0, 1]


def test_a_cell_at_the_edge_of_the_scan_that_two_frames_cut_counts_once() -> None:
    ledger = CellLedger(2)
    ledger.add(cells_at((0, 92, 6, 97)), (0, 0), (100, 100))
    ledger.add(cells_at((0, 12, 6, 17)), (0, 80), (100, 100))
    assert ledger.counts.tolist() == [0, 1]


def test_a_cell_at_the_edge_of_the_scan_counts() -> None:
    ledger = CellLedger(2)
    ledger.add(cells_at((0, 20, 6, 30)), (0, 0), (100, 100))
    ledger.add(cells_at(), (0, 90), (100, 100))
    assert ledger.counts.tolist() == [0, 1]


def options_for(tmp_path: Path) -> InferOptions:
    from tests.bundles import make_bundle

    return InferOptions(
        model=make_bundle(tmp_path / "tiny.cellseg").path, engine="onnxruntime", precision="fp32"
    )


def test_a_scan_ends_in_the_folder_that_infer_makes(tmp_path: Path) -> None:
    options = options_for(tmp_path)
    scan = Scan("slide.svs", tmp_path / "out", options, (), PALETTE, 0.5, may_wait=True)
    for frame in play().frames(Event()):
        scan.add(frame)
    found = scan.finish()
    assert found is not None
    folder = tmp_path / "out" / "slide"
    assert not list(folder.glob("preview*"))
    made = infer_slide(ArraySlide(PICTURE, 0.5, path="a.png"), tmp_path / "other", options)
    assert {f.name for f in folder.iterdir()} >= {f.name for f in made.folder.iterdir()}
    assert (folder / "slide.ome.tif").is_file()
    report = json.loads((folder / "run.json").read_text())
    assert report["status"] == "done"
    again = infer_slide(folder / "slide.ome.tif", tmp_path / "out", options)
    assert again.was_done


def test_what_a_killed_scan_kept_is_played_again_and_never_overwritten(tmp_path: Path) -> None:
    options, folder = options_for(tmp_path), tmp_path / "out" / "a"
    killed = Scan("a", tmp_path / "out", options, (), PALETTE, 0.5, may_wait=True)
    frames = list(play().frames(Event()))
    for frame in frames:
        killed.add(frame)
    killed._mosaic.close()  # and nothing after it, as a kill would have it
    with pytest.raises(StoreError, match="broken off") as refused:
        Scan("a", tmp_path / "out", options, (), PALETTE, 0.5, may_wait=True)
    assert f"recording:{folder}" in str(refused.value.hint)
    kept = RecordingSource(folder)
    assert kept.mpp == 0.5
    for before, after in zip(frames, kept.frames(Event()), strict=True):
        np.testing.assert_array_equal(before.array, after.array)
        assert before.meta.stage_xyz_um == after.meta.stage_xyz_um
        assert before.meta.frame_id == after.meta.frame_id


def test_a_full_disk_ends_the_mosaic_and_not_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, keep = play(), KeptFrames.keep

    def fails(kept: KeptFrames, frame: Frame) -> Path:
        if frame.meta.frame_id >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return keep(kept, frame)

    monkeypatch.setattr(KeptFrames, "keep", fails)
    mosaic = mosaic_of(camera, tmp_path / "x.ome.tif")  # many more than may wait
    with pytest.raises(StoreError, match="No space left"):
        mosaic.finish()
    assert mosaic.left_out == len(camera.path_yx) - 2
    assert len(list(RecordingSource(tmp_path).frames(Event()))) == 2


def test_a_source_that_fails_leaves_the_frames_before_it(tmp_path: Path) -> None:
    class Failing(SlideCamera):
        def frames(self, stop: Event) -> Any:
            yield from itertools.islice(super().frames(stop), 3)
            raise SlideError("the stage is stuck")

    known = SlideCameraOptions((256, 256), overlap=0.15)
    camera = Failing(ArraySlide(PICTURE, 0.5, path="s.png"), known)
    model, options = options_for(tmp_path), LiveOptions(out=tmp_path / "out")
    chosen = {"engine": model.engine, "precision": model.precision}
    with LiveRun(camera, False, options, model.model, **chosen) as run:
        run.start()
        assert run.wait(60)
        with pytest.raises(SlideError, match="stuck"):
            run.finish()
    (kept,) = (tmp_path / "out").iterdir()
    assert len(list(RecordingSource(kept).frames(Event()))) == 3


def test_a_scan_never_overwrites_a_result(tmp_path: Path) -> None:
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "run.json").write_text("{}")
    with pytest.raises(StoreError, match="never overwrites"):
        Scan("a.svs", tmp_path / "out", options_for(tmp_path), (), PALETTE, 0.5, may_wait=True)


def test_a_stage_that_stands_still_leaves_no_mosaic(tmp_path: Path) -> None:
    scan = Scan("a", tmp_path, options_for(tmp_path), (), PALETTE, 0.5, may_wait=True)
    for number in range(3):
        scan.add(Frame(PICTURE[:50, :50], FrameMeta(number, 0, (1.0, 2.0, 0.0))))
    assert scan.finish() is None
    assert list((tmp_path / "a").iterdir()) == []


def test_cells_counted_while_scanning_are_those_of_the_whole(
    tmp_path: Path, cell_bundle: Any
) -> None:
    from tests.fakes import IdentityEngine

    def open_engine(_: Any, __: Any, hw: tuple[int, int]) -> IdentityEngine:
        return IdentityEngine(hw)

    options = options_for(tmp_path)
    scan = Scan("a", tmp_path, options, ("nucleus",), PALETTE, 0.5, may_wait=True)
    with LiveSession(cell_bundle, policy="block", open_engine=open_engine) as session:
        whole = session.submit(PICTURE).result(30).counts["nucleus"]
        session.on_result(scan.see)
        for frame in play().frames(Event()):
            scan.add(frame)
            session.submit(frame)
    scan.close()
    assert abs(scan.counts["nucleus"] - whole) <= 0.03 * whole
