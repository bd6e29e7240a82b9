"""The picture of a result."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cellseg.errors import StoreError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.jobs.job import prepare
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.pictures.overview import ClassSurvey, halvings_to_fit, read_overview
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import ArrayLabels, halved, windows
from cellseg.runtime.view.working import WorkingView
from cellseg.runtime.writers import finished
from cellseg.runtime.writers.atomic import replacing
from cellseg.runtime.writers.finished import FinishedRun
from cellseg.runtime.writers.jpeg import write_jpeg
from cellseg.runtime.writers.overlay import draw_overlay, write_overlay
from tests.fakes import fake_bundle, nuclei_picture
from tests.slides import scene, write_pyramid

if TYPE_CHECKING:
    import threading
from pathlib import Path

PALETTE = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)


def square_classes(side: int) -> np.ndarray:
    classes = np.zeros((side, side), np.uint8)
    classes[side // 4 : side // 2, side // 4 : side // 2] = 1
    return classes


def test_a_small_image_is_enlarged_and_its_cells_outlined() -> None:
    rgb = np.full((200, 200, 3), 90, np.uint8)
    picture = draw_overlay(rgb, square_classes(200), PALETTE)
    assert picture.shape == (800, 800, 3)
    assert picture[200, 300].tolist() == [255, 0, 0]  # on the outline
    assert 90 < picture[300, 300, 0] < 130  # inside: a breath of colour
    assert picture[500, 500].tolist() == [90, 90, 90]
    assert (rgb == 90).all()


def test_a_reduced_slide_is_filled_in() -> None:
    rgb = np.full((200, 200, 3), 90, np.uint8)
    picture = draw_overlay(rgb, square_classes(200), PALETTE, halvings=3)
    assert picture.shape == (200, 200, 3)
    assert picture[75, 75, 0] > 140


def test_touching_cells_are_outlined_one_by_one() -> None:
    classes = np.ones((1100, 1100), np.uint8)
    labels = np.ones((1100, 1100), np.uint32)
    labels[:, 500:] = 2
    picture = draw_overlay(np.zeros((1100, 1100, 3), np.uint8), classes, PALETTE, objects=labels)
    assert picture[5, 499:501, 0].tolist() == [255, 255]
    assert picture[5, 300, 0] < 50


def test_an_image_is_halved_until_it_fits() -> None:
    assert halvings_to_fit((4096, 4000), 4096) == 0
    assert halvings_to_fit((4097, 10), 4096) == 1
    assert halvings_to_fit((10**6, 10**6), 4096) == 8


@pytest.mark.parametrize("halvings", [0, 1])
def test_an_overlay_drawn_in_strips_is_the_one_drawn_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, halvings: int
) -> None:
    monkeypatch.setattr(finished, "OVERVIEW_LONGEST_PX", 1200 >> halvings)
    bundle = Bundle.open(fake_bundle(tmp_path / "fake.cellseg").path)
    job = prepare(ArraySlide(nuclei_picture(1200, 530)), bundle, InferOptions())
    classes = np.zeros((1200, 530), np.uint8)
    classes[100:1100, 20:500] = 1
    cells = classes * (np.arange(1200, dtype=np.uint32)[:, None] // 256 + 1)  # apart at each strip
    run = FinishedRun(job, InferOptions(), ArrayLabels(classes), ArrayLabels(cells))
    write_overlay(tmp_path / "strips.jpg", run)
    whole = draw_overlay(
        read_overview(job.shown, halvings),
        run.survey.overview,
        job.palette,
        objects=None if halvings else cells,
        halvings=halvings,
    )
    write_jpeg(tmp_path / "whole.jpg", whole)
    assert (tmp_path / "strips.jpg").read_bytes() == (tmp_path / "whole.jpg").read_bytes()


@pytest.mark.parametrize("halvings", [0, 1, 3])
def test_the_survey_counts_classes_and_keeps_the_pyramids_level(halvings: int) -> None:
    classes = np.random.default_rng(0).integers(0, 2, (1100, 1300)).astype(np.uint8)
    survey = ClassSurvey(classes.shape, 2, halvings)
    for y, x, h, w in windows(classes.shape, 512):
        survey.see(y, x, classes[y : y + h, x : x + w])
    assert survey.counts.tolist() == np.bincount(classes.ravel()).tolist()
    for _ in range(halvings):
        classes = halved(classes)
    np.testing.assert_array_equal(survey.overview, classes)


def test_a_survey_is_waited_for_until_all_was_seen() -> None:
    survey = ClassSurvey((512, 1024), 2, 1)
    counts: list[list[int]] = []

    def count() -> None:
        survey.wait()
        counts.append(survey.counts.tolist())

    waiting = threading.Thread(target=count)
    waiting.start()
    survey.see(0, 0, np.zeros((512, 512), np.uint8))
    assert not counts
    survey.see(0, 512, np.ones((512, 512), np.uint8))
    waiting.join(10)
    assert counts == [[2**18, 2**18]]


def test_a_survey_that_was_given_up_is_not_waited_for() -> None:
    survey = ClassSurvey((512, 1024), 2, 1)
    survey.give_up()
    with pytest.raises(CancelledError):
        survey.wait()


@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_the_overview_shows_the_slide_at_its_place(tmp_path: Path, halvings: int) -> None:
    image = scene(512, 768)
    path = write_pyramid(tmp_path / "a.tif", image, subifds=True)
    slide = open_slide(path, 0.5)
    picture = read_overview(WorkingView(slide, 0.5), halvings)
    slide.close()
    side = 2**halvings
    means = image.reshape(512 // side, side, 768 // side, side, 3).mean(axis=(1, 3))
    assert picture.shape == means.shape
    assert np.abs(picture.astype(float) - means).max() < 12


def test_a_level_of_the_overviews_size_is_the_overview(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", scene(512, 768), subifds=True)
    slide = open_slide(path, 0.5)
    np.testing.assert_array_equal(
        read_overview(WorkingView(slide, 0.5), 1), slide.read_region(1, (0, 0), (256, 384))
    )
    slide.close()


def test_the_overview_of_a_slide_without_pyramid_is_its_average() -> None:
    image = scene(900, 700)
    view = WorkingView(ArraySlide(image, mpp=0.25), 0.5)
    picture = read_overview(view, 1)
    assert picture.shape == (225, 175, 3)
    means = image.reshape(225, 4, 175, 4, 3).mean(axis=(1, 3))
    assert np.abs(picture.astype(float) - means).max() < 12


def test_a_file_that_fails_leaves_nothing_behind_and_the_old_one_in_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")

    def fail() -> None:
        with replacing(tmp_path / "a.txt") as partial:
            partial.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match="disk is full"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
