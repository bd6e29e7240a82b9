"""A whole run: what is in the folder, that nothing but the input decides it, and how it stops."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import tifffile

from cellseg.errors import CellsegError, EngineError, SlideError, StoreError, TilePlanError
from cellseg.runtime.bundles.decide import ClassRule
from cellseg.runtime.infer import RunResult
from cellseg.runtime.jobs.options import InferOptions, Progress
from cellseg.runtime.jobs.outputs import OUTPUTS
from cellseg.runtime.run.result_folder import result_folder
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.result_store import STORE_NAME, ResultStore
from tests.fakes import CELL_HEAD, ConvEngine, fake_bundle, nuclei_picture, run_fake

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TILE_PX = 64


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return fake_bundle(tmp_path / "fake.cellseg").path


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    return nuclei_picture(211, 305)


def whole_classes(image: NDArray[np.uint8], bundle: Path) -> NDArray[np.uint8]:
    """Classes of the network run once over the rounded image."""
    from cellseg.runtime.bundles.bundle import Bundle

    h, w = image.shape[:2]
    padded = np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    channels = ConvEngine(padded.shape[:2]).infer(padded)
    return ClassRule.of(Bundle.open(bundle).manifest).classes(channels, (0, 0), (h, w))


def classes_of(result: RunResult) -> NDArray[np.uint8]:
    return tifffile.imread(result.folder / "classes.ome.tif")


def hashes(result: RunResult) -> dict[str, str]:
    names = ("classes.ome.tif", "overlay.jpg")
    return {n: hashlib.sha256((result.folder / n).read_bytes()).hexdigest() for n in names}


def test_the_class_map_is_that_of_the_whole_image(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8]
) -> None:
    result, engine = run_fake(ArraySlide(picture), tmp_path / "out", bundle, tile_px=TILE_PX)
    np.testing.assert_array_equal(classes_of(result), whole_classes(picture, bundle))
    assert engine.calls == result.report["plan"]["tiles_total"] > 1
    assert engine.is_closed


def test_files_are_written_when_the_engines_memory_is_free(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellseg.runtime import infer

    open_then: list[bool] = []
    write = infer.write_results

    def watched(folder: Path, job: Any, engine: Any, *more: Any) -> Any:
        open_then.append(not engine.is_closed)
        return write(folder, job, engine, *more)

    monkeypatch.setattr(infer, "write_results", watched)
    run_fake(ArraySlide(picture), tmp_path / "alone", bundle, tile_px=TILE_PX)
    assert open_then == [False]


@pytest.mark.parametrize("hw", [(1, 1), (1, 300), (300, 1), (2, 3), (63, 65)])
def test_odd_and_tiny_images_run(tmp_path: Path, bundle: Path, hw: tuple[int, int]) -> None:
    image = nuclei_picture(*hw)
    result, _ = run_fake(ArraySlide(image), tmp_path, bundle, tile_px=TILE_PX)
    np.testing.assert_array_equal(classes_of(result).reshape(hw), whole_classes(image, bundle))
    assert sum(c["pixels"] for c in result.report["classes"].values()) == hw[0] * hw[1]


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 1, "batch": 1},
        {"workers": 5, "batch": 3, "engine_options": {"concurrency": 3}},
        {"batch": 1000, "max_ram_bytes": 2**30},
    ],
    ids=str,
)
def test_threads_batch_and_memory_do_not_change_a_byte(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8], options: dict[str, Any]
) -> None:
    slide = ArraySlide(picture, mpp=0.5)
    first, _ = run_fake(slide, tmp_path / "a", bundle, tile_px=TILE_PX)
    second, _ = run_fake(slide, tmp_path / "b", bundle, tile_px=TILE_PX, **options)
    assert hashes(first) == hashes(second)


def test_the_report_follows_its_schema(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8]
) -> None:
    result, _ = run_fake(ArraySlide(picture, mpp=0.5), tmp_path, bundle, tile_px=TILE_PX)
    report = json.loads((result.folder / "run.json").read_text(encoding="utf-8"))
    assert report == result.report
    assert (report["schema"], report["status"]) == ("cellseg.run/1", "done")
    assert report["input"]["width_px"] == 305
    assert report["input"]["mpp"] == 0.5
    assert {"level", "mpp", "tile_px", "core_px", "halo_px", "tiles_total", "tiles_skipped"} <= (
        report["plan"].keys()
    )
    assert list(report["stages_s"]) == ["read", "infer", "stitch", "cells", "write"]
    assert report["stages_s"]["cells"] is None
    assert report["cells"] is None
    nucleus = report["classes"]["nucleus"]
    assert nucleus["pixels"] == np.count_nonzero(classes_of(result))
    assert nucleus["area_mm2"] == pytest.approx(nucleus["pixels"] * 0.25e-6)
    for name, facts in report["outputs"].items():
        data = (result.folder / name).read_bytes()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert report["throughput_mpx_s"] == pytest.approx(211 * 305 / 1e6 / report["wall_s"], rel=1e-4)


def test_what_is_not_known_is_null_and_not_zero(tmp_path: Path, bundle: Path) -> None:
    result, _ = run_fake(ArraySlide(nuclei_picture(20, 20)), tmp_path, bundle)
    report = result.report
    assert report["input"]["mpp"] is report["plan"]["mpp"] is report["mm2_per_s"] is None
    assert report["classes"]["nucleus"]["area_mm2"] is None
    assert report["throughput_mpx_s"] > 0


def test_the_folder_holds_nothing_but_results(tmp_path: Path, bundle: Path) -> None:
    result, _ = run_fake(ArraySlide(nuclei_picture(90, 90)), tmp_path, bundle)
    names = sorted(path.name for path in result.folder.iterdir())
    assert names == ["classes.ome.tif", "overlay.jpg", "run.json", "run.log"]


def test_an_image_in_its_own_result_folder_is_not_replaced(tmp_path: Path, bundle: Path) -> None:
    image = tmp_path / "overlay" / "overlay.jpg"
    image.parent.mkdir()
    cv2.imwrite(str(image), nuclei_picture(40, 40))
    before = image.read_bytes()
    with pytest.raises(StoreError, match="must not replace files that no run made"):
        run_fake(image, tmp_path, bundle)
    assert image.read_bytes() == before
    assert list(image.parent.iterdir()) == [image]


def test_a_finished_run_is_not_run_again(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8]
) -> None:
    slide = ArraySlide(picture)
    first, _ = run_fake(slide, tmp_path, bundle)
    second, engine = run_fake(slide, tmp_path, bundle)
    assert (second.was_done, engine) == (True, None)
    assert second.report == first.report
    third, engine = run_fake(slide, tmp_path, bundle, restart=True)
    assert engine is not None
    assert hashes(third) == hashes(first)


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what turns the disk read-only; permissions alone do not bind root."""

    def make() -> None:
        opened = os.open

        def read_only(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            return opened(path, flags, *args, **options)

        monkeypatch.setattr(os, "open", read_only)

    return make


def test_a_finished_run_on_a_read_only_disk_is_found_and_nothing_written(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8], unwritable: Callable[[], None]
) -> None:
    slide = ArraySlide(picture)
    first, _ = run_fake(slide, tmp_path, bundle)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    unwritable()
    second, engine = run_fake(slide, tmp_path, bundle)
    assert (second.was_done, engine, second.report) == (True, None, first.report)
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before
    with pytest.raises(StoreError, match="slide was"):
        run_fake(ArraySlide(picture[::-1]), tmp_path, bundle)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"write": ("classes", "mask")}, r"Received: folder=.*, without mask\.png\."),
        ({"restart": True}, r"can be written.*Read-only file system"),
    ],
)
def test_what_is_missing_on_a_read_only_disk_is_named(
    tmp_path: Path,
    bundle: Path,
    unwritable: Callable[[], None],
    options: dict[str, Any],
    message: str,
) -> None:
    slide = ArraySlide(nuclei_picture(90, 90))
    run_fake(slide, tmp_path, bundle)
    unwritable()
    with pytest.raises(StoreError, match=message) as caught:
        run_fake(slide, tmp_path, bundle, **options)
    assert "-o" in str(caught.value.hint)


def test_a_lost_file_on_a_read_only_disk_cannot_come_back(
    tmp_path: Path, bundle: Path, unwritable: Callable[[], None]
) -> None:
    slide = ArraySlide(nuclei_picture(90, 90))
    first, _ = run_fake(slide, tmp_path, bundle)
    (first.folder / "overlay.jpg").unlink()
    unwritable()
    with pytest.raises(StoreError, match="can be written"):
        run_fake(slide, tmp_path, bundle)


@pytest.mark.parametrize("chosen", [1, "green"])
def test_a_channel_that_was_chosen_is_not_the_one_that_was_found(
    tmp_path: Path, bundle: Path, chosen: Any
) -> None:
    image = np.zeros((90, 90, 3), np.uint8)
    image[..., 1] = nuclei_picture(90, 90, seed=1)[..., 0]
    image[..., 2] = nuclei_picture(90, 90, seed=2)[..., 0]
    assert cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    run_fake(tmp_path / "a.png", tmp_path / "out", bundle)
    with pytest.raises(StoreError, match="channel was"):
        run_fake(tmp_path / "a.png", tmp_path / "out", bundle, channel=chosen)


@pytest.mark.parametrize("how", [{"threshold": 0.9, "restart": True}, {}], ids=["restart", "go on"])
def test_no_file_stays_of_a_killed_run_that_the_next_one_was_not_asked_for(
    tmp_path: Path, bundle: Path, how: dict[str, Any]
) -> None:
    slide = ArraySlide(nuclei_picture(90, 90))
    everything = ("classes", "mask", "probability")
    with (
        patch("cellseg.runtime.infer.ResultStore.remove", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        run_fake(slide, tmp_path, bundle, write=everything)  # killed with its files written
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    (folder / "run.json").unlink()
    run_fake(slide, tmp_path, bundle, write=("classes",), **how)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["classes.ome.tif", "run.json", "run.log"]


@pytest.mark.parametrize("lost", ["overlay.jpg", "classes.ome.tif"])
@pytest.mark.parametrize("asked", ["classes", "mask"])
def test_a_file_that_is_lost_comes_back_and_tiles_run_only_where_the_map_is_gone(
    tmp_path: Path, bundle: Path, lost: str, asked: str
) -> None:
    slide = ArraySlide(nuclei_picture(90, 90))
    first, _ = run_fake(slide, tmp_path, bundle, write=("classes", "overlay"))
    before = hashes(first)
    (first.folder / lost).unlink()
    second, engine = run_fake(slide, tmp_path, bundle, write=(asked,))
    assert hashes(second) == before
    assert (engine is None) == (lost == "overlay.jpg")
    assert set(second.files) == {*before, OUTPUTS[asked].file}


def test_a_file_that_was_cut_off_is_made_again(tmp_path: Path, bundle: Path) -> None:
    slide = ArraySlide(nuclei_picture(90, 90))
    first, _ = run_fake(slide, tmp_path, bundle)
    before = hashes(first)
    os.truncate(first.folder / "overlay.jpg", 100)
    second, engine = run_fake(slide, tmp_path, bundle)
    assert (hashes(second), engine, second.was_done) == (before, None, False)
    third, _ = run_fake(slide, tmp_path, bundle)
    assert third.was_done


def test_a_finished_run_of_another_kind_is_not_overwritten(tmp_path: Path, bundle: Path) -> None:
    slide = ArraySlide(nuclei_picture(90, 90))
    first, _ = run_fake(slide, tmp_path, bundle)
    with pytest.raises(StoreError, match=r"threshold was none, is 0\.7") as caught:
        run_fake(slide, tmp_path, bundle, threshold=0.7)
    assert "--restart" in str(caught.value.hint)
    other, _ = run_fake(slide, tmp_path, bundle, threshold=0.7, restart=True)
    assert other.folder == first.folder
    assert other.report["provenance"]["identity"]["threshold"] == 0.7


def test_only_the_files_that_are_wanted_are_written(tmp_path: Path, bundle: Path) -> None:
    slide = ArraySlide(nuclei_picture(90, 90))
    result, _ = run_fake(slide, tmp_path, bundle, write=("overlay",))
    assert list(result.files) == ["overlay.jpg"]
    assert not (result.folder / "classes.ome.tif").exists()
    assert sum(c["pixels"] for c in result.report["classes"].values()) == 8100
    more, _ = run_fake(slide, tmp_path, bundle)
    assert sorted(more.files) == ["classes.ome.tif", "overlay.jpg"]


def test_a_slide_that_changed_is_refused(tmp_path: Path, bundle: Path) -> None:
    run_fake(ArraySlide(nuclei_picture(90, 90)), tmp_path, bundle)
    with pytest.raises(StoreError, match="slide was"):
        run_fake(ArraySlide(nuclei_picture(90, 90, seed=1)), tmp_path, bundle)


def test_a_failing_engine_keeps_what_was_done_and_the_next_call_goes_on(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8]
) -> None:
    slide = ArraySlide(picture)
    options = {"tile_px": TILE_PX, "workers": 1, "batch": 1}
    with pytest.raises(EngineError, match=r"infer stage failed \(at tile \d+ .*out of patience"):
        run_fake(slide, tmp_path / "a", bundle, kind="FailingEngine", **options)
    folder = result_folder(slide.path, tmp_path / "a")
    assert not (folder / "run.json").exists()
    result, engine = run_fake(slide, tmp_path / "a", bundle, kind="IdentityEngine", **options)
    resumed = result.report["plan"]["tiles_resumed"]
    assert resumed > 0
    assert engine.calls == result.report["plan"]["tiles_total"] - resumed
    assert result.report["plan"]["sessions"] == 2
    log = (folder / "run.log").read_text(encoding="utf-8")
    assert f"resuming: {resumed} of {engine.calls + resumed} tiles are done already" in log
    clean, _ = run_fake(slide, tmp_path / "b", bundle, kind="IdentityEngine", **options)
    assert hashes(clean) == hashes(result)


def test_an_interrupt_keeps_what_was_done(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8]
) -> None:
    def interrupt(state: Progress) -> None:
        if state.phase == "tiles" and state.tiles_done >= 2:
            raise KeyboardInterrupt

    slide, slow = ArraySlide(picture), {"delay_s": 0.03}
    with pytest.raises(KeyboardInterrupt):
        run_fake(
            slide,
            tmp_path,
            bundle,
            tile_px=TILE_PX,
            engine_options=slow,
            progress=interrupt,
        )
    result, _ = run_fake(slide, tmp_path, bundle, tile_px=TILE_PX)
    assert result.report["plan"]["tiles_resumed"] >= 2
    np.testing.assert_array_equal(classes_of(result), whole_classes(picture, bundle))


def test_an_unfinished_run_of_another_kind_is_not_mixed(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8]
) -> None:
    slide = ArraySlide(picture)
    with pytest.raises(EngineError):
        run_fake(slide, tmp_path, bundle, kind="FailingEngine", tile_px=TILE_PX)
    with pytest.raises(StoreError, match="unfinished run that differs.*tile_px was 64, is 128"):
        run_fake(slide, tmp_path, bundle, kind="IdentityEngine", tile_px=128)
    result, _ = run_fake(slide, tmp_path, bundle, kind="IdentityEngine", tile_px=128, restart=True)
    assert result.report["plan"]["tiles_resumed"] == 0


def test_a_resumed_run_takes_the_tile_and_engine_it_began_with(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8]
) -> None:
    from cellseg.runtime.infer import infer_slide

    slide, asked = ArraySlide(picture), []
    with pytest.raises(EngineError):
        run_fake(slide, tmp_path, bundle, kind="FailingEngine", tile_px=TILE_PX)

    def open_engine(_: Any, options: InferOptions, tile_hw: tuple[int, int]) -> Any:
        from tests.fakes import IdentityEngine

        asked.append((options.engine, options.precision, tile_hw))
        return IdentityEngine(tile_hw)

    run = infer_slide(slide, tmp_path, InferOptions(model=bundle), open_engine=open_engine)
    plan = run.report["plan"]
    assert plan["tile_px"] == TILE_PX
    assert asked == [("fake", "fp32", tuple(plan["tile_hw"]))]


SLOW_RUN = """
import sys
import numpy as np
from cellseg.runtime.slides.slide import ArraySlide
from tests.fakes import nuclei_picture, run_fake
run_fake(ArraySlide(nuclei_picture(211, 305)), sys.argv[1], sys.argv[2], tile_px=64,
         engine_options={"delay_s": 0.15})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8], repository: Path
) -> None:
    folder = result_folder("<array>", tmp_path / "killed")
    command = [sys.executable, "-c", SLOW_RUN, str(tmp_path / "killed"), str(bundle)]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    with subprocess.Popen(command, cwd=repository, env=environment) as process:
        wal = folder / f"{STORE_NAME}-wal"
        deadline = time.monotonic() + 60
        while not (wal.exists() and wal.stat().st_size > 200_000):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "run.json").exists()
    slide, options = ArraySlide(picture), {"tile_px": TILE_PX}
    result, engine = run_fake(slide, tmp_path / "killed", bundle, **options)
    resumed = result.report["plan"]["tiles_resumed"]
    assert 0 < resumed < result.report["plan"]["tiles_total"]
    assert engine.calls == result.report["plan"]["tiles_total"] - resumed
    log = (folder / "run.log").read_text(encoding="utf-8")
    assert re.search(rf"resuming: {resumed} of \d+ tiles", log)
    clean, _ = run_fake(slide, tmp_path / "clean", bundle, **options)
    assert hashes(clean) == hashes(result)


def test_a_run_killed_while_it_wrote_its_files_needs_no_tile_again(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellseg.runtime.writers import overlay

    slide = ArraySlide(picture)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(overlay, "write_jpeg", full)
        with pytest.raises(StoreError, match="disk is full") as caught:
            run_fake(slide, tmp_path, bundle, tile_px=TILE_PX)
    assert "finished tiles are kept" in str(caught.value.hint)
    folder = result_folder(slide.path, tmp_path)
    assert not (folder / "run.json").exists()
    assert not list(folder.glob(".part-*"))
    result, engine = run_fake(slide, tmp_path, bundle, tile_px=TILE_PX)
    assert engine.calls == 0
    assert hashes(result) == hashes(run_fake(slide, tmp_path / "b", bundle, tile_px=TILE_PX)[0])


def test_a_disk_that_fills_up_while_tiles_run_is_resumable(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, put = ArraySlide(picture), ResultStore.put

    def full_after_three(store: ResultStore, tile: int, *data: Any) -> None:
        if tile >= 3:
            store.commit(0.0, {})
            store._db.execute("PRAGMA max_page_count = 1")
            data = ({"classes": bytes(10**6)},)
        put(store, tile, *data)

    with monkeypatch.context() as patch:
        patch.setattr(ResultStore, "put", full_after_three)
        with pytest.raises(StoreError, match="disk is full"):
            run_fake(slide, tmp_path, bundle, tile_px=TILE_PX, workers=1)
    result, _ = run_fake(slide, tmp_path, bundle, tile_px=TILE_PX)
    assert result.report["plan"]["tiles_resumed"] > 0
    np.testing.assert_array_equal(classes_of(result), whole_classes(picture, bundle))


def test_a_second_run_into_the_folder_is_refused(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8]
) -> None:
    refused: list[StoreError] = []

    def start_another(state: Progress) -> None:
        if state.phase == "tiles" and not refused:
            with pytest.raises(StoreError, match="Only one run") as caught:
                run_fake(ArraySlide(picture), tmp_path, bundle, tile_px=TILE_PX)
            refused.append(caught.value)

    run_fake(ArraySlide(picture), tmp_path, bundle, tile_px=TILE_PX, progress=start_another)
    assert refused


def test_progress_moves_from_opening_to_writing(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8]
) -> None:
    seen: list[Progress] = []
    run_fake(ArraySlide(picture, mpp=0.5), tmp_path, bundle, tile_px=TILE_PX, progress=seen.append)
    phases = list(dict.fromkeys(state.phase for state in seen))
    assert phases == ["open", "tissue", "tiles", "write"]
    last = [state for state in seen if state.phase == "tiles"][-1]
    assert last.tiles_done == last.tiles_total
    assert last.eta_s == 0
    assert last.bottleneck in ("read", "infer", "stitch", "write")
    assert (last.throughput_mpx_s or 0) > 0
    assert last.mm2_per_s == pytest.approx((last.throughput_mpx_s or 0) * 0.25)


def test_a_model_that_needs_a_pixel_size_refuses_a_slide_without_one(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "m.cellseg", mpp=0.5).path
    slide = ArraySlide(nuclei_picture(90, 90))
    slide.kind = "slide"
    with pytest.raises(SlideError) as caught:
        run_fake(slide, tmp_path / "out", bundle)
    assert "--mpp" in str(caught.value.hint)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_px": 12}, "tile_px=12, halo_px=6"),
        ({"tile_px": 63}, "tile_px=63, stride_px=2"),
        ({"max_ram_bytes": 10**6}, "need about"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_work(
    tmp_path: Path, bundle: Path, options: dict[str, int], message: str
) -> None:
    slide = ArraySlide(nuclei_picture(90, 90))
    with pytest.raises(TilePlanError, match=message):
        run_fake(slide, tmp_path / "out", bundle, **options)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers=0"),
        ({"batch": -1}, "batch=-1"),
        ({"threshold": 1.0}, "threshold=1.0"),
        ({"mpp": 0.0}, "mpp=0.0"),
        ({"write": ("classes", "cels")}, "write=cels"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CellsegError, match=message):
        InferOptions(**options)


def test_tissue_decides_which_tiles_run(tmp_path: Path, bundle: Path) -> None:
    image = np.full((1200, 1600, 3), 240, np.uint8)
    image[100:300, 100:400] = nuclei_picture(200, 300)
    slide = ArraySlide(image, mpp=0.5)
    slide.kind = "slide"
    result, engine = run_fake(slide, tmp_path / "a", bundle, kind="IdentityEngine", tile_px=128)
    plan = result.report["plan"]
    assert engine.calls == plan["tiles_total"] - plan["tiles_skipped"] < plan["tiles_total"] // 2
    assert (plan["ground"], plan["tissue_fraction"]) == ("bright", pytest.approx(0.14, abs=0.05))
    whole, engine = run_fake(
        slide, tmp_path / "b", bundle, kind="IdentityEngine", tile_px=128, tissue_mask=False
    )
    assert engine.calls == plan["tiles_total"]
    assert whole.report["plan"]["tiles_skipped"] == 0
    assert classes_of(whole)[1000, 1000] == 1  # this fake takes white for cells
    assert classes_of(result)[1000, 1000] == 0
    np.testing.assert_array_equal(
        classes_of(result)[100:300], classes_of(whole)[100:300] * (classes_of(result)[100:300] > 0)
    )


def test_the_mask_and_not_the_tiling_decides_what_is_left_out(tmp_path: Path, bundle: Path) -> None:
    image = np.full((1200, 1600, 3), 240, np.uint8)
    image[100:300, 100:400] = nuclei_picture(200, 300)
    slide = ArraySlide(image, mpp=0.5)
    slide.kind = "slide"
    found = [
        classes_of(run_fake(slide, tmp_path / str(px), bundle, tile_px=px)[0])
        for px in (128, 256, 1024)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_a_blank_slide_is_all_background(tmp_path: Path, bundle: Path) -> None:
    slide = ArraySlide(np.full((500, 700), 245, np.uint8), mpp=0.5)
    slide.kind = "slide"
    result, engine = run_fake(slide, tmp_path, bundle, kind="IdentityEngine", tile_px=128)
    assert engine.calls == 0
    assert result.report["classes"]["background"]["pixels"] == 500 * 700
    assert not classes_of(result).any()


def test_tiles_without_any_foreground_count(tmp_path: Path, bundle: Path) -> None:
    black = ArraySlide(np.zeros((100, 100), np.uint8))
    result, engine = run_fake(black, tmp_path, bundle, kind="IdentityEngine", tile_px=TILE_PX)
    assert engine.calls == result.report["plan"]["tiles_total"]
    assert result.report["classes"]["background"]["pixels"] == 10000


def test_a_budget_limits_how_many_tiles_are_computed_at_once(
    tmp_path: Path, bundle: Path, picture: NDArray[np.uint8]
) -> None:
    from cellseg.runtime.infer import infer_slide
    from tests.fakes import IdentityEngine

    asked: list[int | None] = []

    def open_engine(_: Any, options: InferOptions, tile_hw: tuple[int, int]) -> Any:
        asked.append(options.tiles_at_once)
        return IdentityEngine(tile_hw)

    for folder, budget in (("free", None), ("tight", 2**30)):
        options = InferOptions(model=bundle, threads=4096, max_ram_bytes=budget, tile_px=TILE_PX)
        infer_slide(ArraySlide(picture), tmp_path / folder, options, open_engine=open_engine)
    assert asked[0] is None
    assert asked[1] is not None
    assert 1 <= asked[1] < 4096


def test_without_a_budget_the_engine_that_runs_is_planned_for(
    tmp_path: Path,
    bundle: Path,
    picture: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cellseg.runtime import infer
    from tests.fakes import IdentityEngine

    class Litert(IdentityEngine):
        name = "litert"

    planned: list[Any] = []
    plan = infer.memory_for

    def noted(*given: Any) -> Any:
        planned.append(plan(*given).cost.usage)
        return plan(*given)

    monkeypatch.setattr(infer, "memory_for", noted)
    monkeypatch.setattr(infer, "open_engine_for", lambda _, __, tile_hw: Litert(tile_hw))
    infer.infer_slide(ArraySlide(picture), tmp_path, InferOptions(model=bundle, tile_px=TILE_PX))
    assert planned == [infer.expected_usage("litert")]


@pytest.mark.parametrize("file", ["merged", "overlay", "overlay-pyramid"])
def test_pictures_of_a_painted_stain_keep_its_colour(tmp_path: Path, file: str) -> None:
    normalize = {"kind": "slide-percentile", "low": 0.1, "high": 99.9}
    bundle = fake_bundle(tmp_path / "m.cellseg", input={"normalize": normalize}).path
    blue = np.zeros((90, 90, 3), np.uint8)
    blue[..., 2] = np.linspace(20, 120, 90).astype(np.uint8)  # background: below half of its range
    blue[:5, :5, 2] = 250
    slide = ArraySlide(blue, 0.5)
    result, _ = run_fake(slide, tmp_path, bundle, kind="IdentityEngine", write=(file,))
    assert result.report["normalize"]["channel"] == "blue"
    (made,) = (name for name in result.report["outputs"])
    with closing(open_slide(result.folder / made)) as opened:
        whole = opened.levels[0].height_px, opened.levels[0].width_px  # small ones are enlarged
        picture = opened.read_region(0, (0, 0), whole)
    assert np.median(picture[..., 2]) > 30
    assert np.median(picture[..., :2]) < np.median(picture[..., 2]) / 3  # in grey: the same


def test_a_dim_image_is_seen_at_its_own_range(tmp_path: Path) -> None:
    normalize = {"kind": "slide-percentile", "low": 0.1, "high": 99.9}
    bundle = fake_bundle(tmp_path / "m.cellseg", input={"normalize": normalize}).path
    image = np.full((90, 90), 300, np.uint16)
    image[30:40, 30:40] = 900
    result, _ = run_fake(ArraySlide(image), tmp_path, bundle, kind="IdentityEngine")
    assert result.report["classes"]["nucleus"]["pixels"] == 100
    assert result.report["normalize"] == {
        "kind": "slide-percentile",
        "low": 300.0,
        "high": 900.0,
        "channel": None,
    }


def test_cells_of_a_small_image_are_told_apart_and_counted(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD).path
    image = np.zeros((150, 200), np.uint8)
    for y, x in ((10, 10), (60, 60), (62, 130), (120, 190)):
        image[y : y + 9, x : x + 9] = 255
    result, _ = run_fake(
        ArraySlide(image), tmp_path, bundle, kind="IdentityEngine", tile_px=TILE_PX
    )
    assert result.report["cells"] == {"nucleus": 4}
    labels = tifffile.imread(result.folder / "labels.ome.tif")
    assert labels.dtype == np.uint32
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 4]
    assert labels[64, 64] == 2  # on the border of four tiles, one cell
    assert result.report["stages_s"]["cells"] is not None
    assert "labels.ome.tif" in result.report["outputs"]


def test_a_rule_without_a_background_channel_decides_at_one_half(tmp_path: Path) -> None:
    from cellseg.runtime.bundles.bundle import Bundle

    channels = [{"name": "cell", "class_index": 1}]
    path = fake_bundle(
        tmp_path / "m.cellseg", channels=channels, head={"kind": "sigmoid", "instances": None}
    ).path
    rule = ClassRule.of(Bundle.open(path).manifest)
    sure = np.array([[[0.4], [0.5], [0.6]]], np.float32)
    assert rule.classes(sure, (0, 0), (1, 3)).tolist() == [[0, 1, 1]]
    assert ClassRule.of(Bundle.open(path).manifest, 0.55).threshold == 0.55
