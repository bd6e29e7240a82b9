"""Verify: silent where tiling is exact, loud where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cellseg.runtime.options import InferOptions
from cellseg.runtime.slide import ArraySlide
from cellseg.runtime.verify import VerifyReport, WindowCheck, verify
from tests.fakes import CONV_REACH_PX, ConvEngine, fake_bundle, nuclei_picture

if TYPE_CHECKING:
    from pathlib import Path


def check(tmp_path: Path, height: int, width: int, *, halo_px: int, **options: Any) -> VerifyReport:
    bundle = fake_bundle(tmp_path / "m.cellseg", halo_px=halo_px, halo_tolerance=1e-6)
    return verify(
        ArraySlide(nuclei_picture(height, width)),
        InferOptions(model=bundle.path, **options),
        windows=6,
        open_engine=lambda _, __, tile_hw: ConvEngine(tile_hw),
    )


def test_an_exact_halo_differs_nowhere(tmp_path: Path) -> None:
    report = check(tmp_path, 900, 1100, halo_px=CONV_REACH_PX, tile_px=128)
    assert (report.largest_difference, report.flipped_px) == (0.0, 0)
    assert report.ok
    assert {each.against for each in report.checks} == {"untiled", "shifted"}
    assert all(each.seams > 0 for each in report.checks)
    assert report.pixels == 2 * 6 * 512 * 512


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
