"""Verify: silent where tiling is exact, loud where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.verification.picture import PANEL_PX, heat_of
from cellseg.runtime.verification.report import VerifyReport, WindowCheck
from cellseg.runtime.verification.verify import verify
from tests.fakes import CONV_REACH_PX, ConvEngine, fake_bundle, nuclei_picture

if TYPE_CHECKING:
    from pathlib import Path


def check(
    tmp_path: Path,
    height: int,
    width: int,
    *,
    halo_px: int,
    halo_tolerance: float = 1e-6,
    **options: Any,
) -> VerifyReport:
    bundle = fake_bundle(tmp_path / "m.cellseg", halo_px=halo_px, halo_tolerance=halo_tolerance)
    return verify(
        ArraySlide(nuclei_picture(height, width)),
        InferOptions(model=bundle.path, **options),
        windows=3,
        open_engine=lambda _, __, tile_hw: ConvEngine(tile_hw),
    )


def test_an_exact_halo_differs_nowhere(tmp_path: Path) -> None:
    report = check(tmp_path, 900, 1100, halo_px=CONV_REACH_PX, tile_px=128)
    assert (report.largest_difference, report.flipped_px) == (0.0, 0)
    assert report.ok
    exact = ["untiled", "shifted", "tile 64 px", "tile 192 px"]
    assert [way.against for way in report.ways] == [*exact, "hann", "gaussian"]
    assert [way.against for way in report.ways if way.is_exact] == exact
    assert all(each.seams > 0 for each in report.checks)
    assert report.pixels == 4 * 3 * 512 * 512


def test_blended_results_differ_and_do_not_count(tmp_path: Path) -> None:
    report = check(tmp_path, 300, 310, halo_px=CONV_REACH_PX, tile_px=64)
    blended = [way for way in report.ways if not way.is_exact]
    assert all(way.largest_difference > 1e-3 for way in blended)
    assert report.ok
    assert report.as_dict()["ways"][-1]["against"] == "gaussian"


def test_the_picture_shows_windows_that_are_equal_and_windows_that_are_not(tmp_path: Path) -> None:
    def picture_of(halo_px: int) -> np.ndarray:
        bundle = fake_bundle(tmp_path / "m.cellseg", halo_px=halo_px, halo_tolerance=1e-6)
        path = tmp_path / f"{halo_px}.png"
        verify(
            ArraySlide(nuclei_picture(300, 310)),
            InferOptions(model=bundle.path, tile_px=64),
            windows=2,
            picture=path,
            open_engine=lambda _, __, tile_hw: ConvEngine(tile_hw),
        )
        return cv2.imread(str(path))

    equal, seams = picture_of(CONV_REACH_PX), picture_of(CONV_REACH_PX - 4)
    row, column = PANEL_PX + 30, PANEL_PX + 8
    assert equal.shape == seams.shape == (2 * row + 44, 8 * column, 3)
    untiled = (slice(22, 22 + 200), slice(2 * column, 2 * column + 200))
    assert (equal[untiled] == 70).all()  # the grey of what is equal
    assert (seams[untiled] != 70).any()


def test_differences_are_drawn_by_their_size() -> None:
    heat = heat_of(np.array([[0, 1e-12, 1e-8, 1e-4, 1, 7]], np.float32)).astype(int).sum(axis=2)
    equal, *levels = heat[0].tolist()
    assert equal == 3 * 70
    assert levels[0] == levels[1] < levels[2] < levels[3] == levels[4]


def test_flips_are_not_judged_where_the_bundle_allows_a_difference(tmp_path: Path) -> None:
    size = {"halo_px": CONV_REACH_PX - 4, "tile_px": 128}
    report = check(tmp_path, 900, 1100, halo_tolerance=0.9, **size)
    assert report.flipped_px > 0
    assert report.ok
    assert not check(tmp_path, 900, 1100, halo_tolerance=1e-3, **size).ok


def test_a_halo_that_is_too_small_is_found(tmp_path: Path) -> None:
    report = check(tmp_path, 900, 1100, halo_px=CONV_REACH_PX - 4, tile_px=128)
    assert report.flipped_px > 0
    assert report.largest_difference > 1e-3
    assert not report.ok


def test_windows_lie_at_the_borders_too(tmp_path: Path) -> None:
    report = check(tmp_path, 901, 1101, halo_px=CONV_REACH_PX, tile_px=128)
    places = [(each.y_px, each.x_px) for each in report.checks]
    assert (0, 0) in places
    assert (901 - 512, 1101 - 512) in places
    assert report.largest_difference == 0.0


@pytest.mark.parametrize("hw", [(1, 1), (1, 200), (33, 29), (300, 310)])
def test_small_images_get_smaller_tiles(tmp_path: Path, hw: tuple[int, int]) -> None:
    report = check(tmp_path, *hw, halo_px=CONV_REACH_PX)
    assert report.ok
    assert any(each.seams for each in report.checks) or max(hw) < 20


def test_the_seed_chooses_the_windows(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "m.cellseg").path
    slide, options = ArraySlide(nuclei_picture(900, 1100)), InferOptions(model=bundle, tile_px=128)

    def places(seed: int) -> list[tuple[int, int]]:
        report = verify(
            slide,
            options,
            windows=4,
            seed=seed,
            open_engine=lambda _, __, tile_hw: ConvEngine(tile_hw),
        )
        return [(each.y_px, each.x_px) for each in report.checks]

    assert places(1) == places(1) != places(2)


def test_one_pixel_may_flip_where_few_are_compared() -> None:
    def report(flipped_px: int, difference: float = 1e-6) -> VerifyReport:
        check = WindowCheck("untiled", 0, 0, 512, 512, 1, difference, flipped_px)
        return VerifyReport((check,), "fake", "fp32", 1024, 96, 1e-4, 0.1)

    assert report(1).ok
    assert not report(2).ok
    assert not report(0, 1e-3).ok
    assert report(1).as_dict()["flipped_per_million"] == pytest.approx(3.8, abs=0.1)
    assert np.isfinite(report(0).as_dict()["largest_difference"])
