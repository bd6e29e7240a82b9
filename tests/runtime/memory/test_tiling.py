"""The tile of a run: the user's, that of before, what fits, what is fastest."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cellseg.errors import TilePlanError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines.table import EngineEntry
from cellseg.runtime.jobs.job import prepare, with_tile
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.memory import tiling
from cellseg.runtime.memory.budget import EngineUsage, plan_memory
from cellseg.runtime.memory.footprint import tile_cost
from cellseg.runtime.memory.tiling import fitting_tiles, most_at_once, tile_for
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.tissue.mask import TissueMask
from tests.bundles import make_bundle
from tests.fakes import nuclei_picture

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.runtime.jobs.job import Job


USAGE = EngineUsage(0, 256)


@pytest.fixture
def large(tmp_path: Path) -> Job:
    """Prepare a job of a slide of 10 000 x 10 000 px, of which nothing is read."""
    bundle = Bundle.open(make_bundle(tmp_path / "b.cellseg").path)
    slide = ArraySlide(np.broadcast_to(np.uint8(7), (10_000, 10_000)))
    return prepare(slide, bundle, InferOptions())


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let every trial find the largest tile to be the fastest, and keep what was asked."""
    asked: list[dict[str, Any]] = []

    def fastest(shares: dict[int, float], usual_px: int, *_: Any) -> int:
        asked.append({"sides": sorted(shares), "usual": usual_px, "shares": shares})
        return max(shares)

    monkeypatch.setattr(tiling, "fastest_tile_px", fastest)
    monkeypatch.setattr(
        tiling,
        "choose_engine",
        lambda *_, **__: SimpleNamespace(engine="openvino", precision="fp32"),
    )
    return asked


def test_a_large_run_takes_the_fastest_of_what_fits(
    large: Job, trials: list[dict[str, Any]]
) -> None:
    assert tile_for(large, InferOptions(threads=1, max_ram_bytes=2**32), USAGE) == 2048
    assert [(each["sides"], each["usual"]) for each in trials] == [([1024, 1536, 2048], 1024)]
    budget = InferOptions(threads=1, max_ram_bytes=1200 * 2**20)
    assert tile_for(large, budget, USAGE) == 1024


def test_a_size_is_judged_by_what_it_computes_of_this_slide(
    large: Job, trials: list[dict[str, Any]]
) -> None:
    options = InferOptions(threads=1)
    tile_for(large, options, USAGE)
    everywhere = trials[-1]["shares"]
    for side, share in everywhere.items():
        plan = with_tile(large, options, side).plan
        assert share == 10_000**2 / (len(plan) * plan.tile_hw[0] * plan.tile_hw[1])
    spots = np.zeros((100, 100), bool)
    spots[::20, ::20] = True  # 100 px wide, 2000 px apart: most of a large tile is ground
    scattered = replace(large, mask=TissueMask(spots, (100.0, 100.0), "bright"))
    scattered = with_tile(with_tile(scattered, options, 512), options, 1024)
    tile_for(scattered, options, USAGE)
    here = trials[-1]["shares"]
    assert everywhere[1024] > 0.9 * everywhere[512]
    assert here[1024] < 0.6 * here[512]


def test_under_a_budget_slides_have_the_same_tile_however_their_tissue_lies(
    large: Job, trials: list[dict[str, Any]]
) -> None:
    spots = np.zeros((100, 100), bool)
    spots[::20, ::20] = True
    scattered = replace(large, mask=TissueMask(spots, (100.0, 100.0), "bright"))
    for mebibytes in (640, 800, 1024, 1536):
        options = InferOptions(threads=2, max_ram_bytes=mebibytes * 2**20)
        assert tile_for(scattered, options, USAGE) == tile_for(large, options, USAGE)
    assert trials == []


def test_unasked_no_tile_is_tried_that_takes_far_more_memory_than_the_usual(
    large: Job, trials: list[dict[str, Any]]
) -> None:
    assert tile_for(large, InferOptions(threads=1), USAGE) == 1024
    assert tile_for(large, InferOptions(threads=4), USAGE) == 1024  # the usual one may take more
    assert [trial["sides"] for trial in trials] == [[512, 768, 1024]] * 2


def test_a_small_run_is_not_tried(tmp_path: Path, trials: list[dict[str, Any]]) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "b.cellseg").path)
    job = prepare(ArraySlide(nuclei_picture(300, 300)), bundle, InferOptions())
    assert tile_for(job, InferOptions(), USAGE) == 1024
    assert tile_for(job, InferOptions(max_ram_bytes=2**31), USAGE) == 1024
    assert trials == []


def test_blended_tiles_keep_their_size(large: Job, trials: list[dict[str, Any]]) -> None:
    options = InferOptions(blend="hann")
    job = with_tile(replace(large, plan=with_tile(large, options, 512).plan), options, 1024)
    assert job.blend is not None
    assert tile_for(job, options, USAGE) == 1024
    assert trials == []


def test_a_tighter_budget_gets_smaller_tiles_and_a_hopeless_one_the_smallest(large: Job) -> None:
    def largest(mebibytes: int) -> int:
        budget = InferOptions(max_ram_bytes=mebibytes * 2**20)
        return max(fitting_tiles(large, budget, "openvino", 2, USAGE))

    sizes = [largest(mebibytes) for mebibytes in (8000, 2000, 1200, 900, 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (2048, 256)
    assert len(set(sizes)) > 2


def test_tiles_larger_than_usual_must_fit_easily(large: Job) -> None:
    def sides(mebibytes: int) -> set[int]:
        budget = InferOptions(max_ram_bytes=mebibytes * 2**20)
        return set(fitting_tiles(large, budget, "openvino", 2, USAGE))

    needed = [
        plan_memory(
            replace(tile_cost(with_tile(large, InferOptions(), side), USAGE, 2), cache_bytes=0)
        ).total_bytes
        >> 20
        for side in (1024, 1536)
    ]
    assert 1024 in sides(needed[0] + 20)
    assert 1536 not in sides(2 * needed[1] - 100)
    assert 1536 in sides(2 * needed[1] + 40)


def test_every_size_that_fits_can_be_planned(large: Job) -> None:
    options = InferOptions(max_ram_bytes=900 * 2**20)
    for side, at_once in fitting_tiles(large, options, "openvino", 2, USAGE).items():
        cost = tile_cost(with_tile(large, options, side), USAGE, at_once)
        plan_memory(cost, max_ram_bytes=options.max_ram_bytes)
    cost = tile_cost(with_tile(large, options, 2048), USAGE, 2)
    with pytest.raises(TilePlanError):
        plan_memory(cost, max_ram_bytes=options.max_ram_bytes)


def test_another_tile_keeps_mask_and_range(large: Job) -> None:
    other = with_tile(large, InferOptions(), 512)
    assert other.mask is large.mask
    assert other.seen == large.seen
    assert len(other.todo) == len(other.plan) > len(large.plan)
    assert with_tile(large, InferOptions(), large.plan.y.tile_px) is large


def test_with_many_cores_fewer_tiles_are_computed_at_once_rather_than_small_ones(
    large: Job, trials: list[dict[str, Any]]
) -> None:
    options = InferOptions(threads=16, max_ram_bytes=3 * 2**29)
    wide_halo = prepare(large.slide, Bundle.open("nuclei"), InferOptions())  # 96 px
    fitting = fitting_tiles(wide_halo, options, "openvino", 16, USAGE)
    assert fitting[384] == 16
    assert 1 <= fitting[1024] < 16
    assert list(fitting.values()) == sorted(fitting.values(), reverse=True)
    assert tile_for(wide_halo, options, USAGE) >= 1024
    assert tile_for(large, options, USAGE) > 0  # 8 px: small tiles lose little, and are not avoided
    assert trials == []  # larger ones do not fit easily


def test_a_plan_that_fits_leaves_it_to_the_engine_how_many_tiles_go_side_by_side(
    large: Job,
) -> None:
    def at_once(**options: Any) -> int | None:
        return most_at_once(large, InferOptions(threads=16, **options), USAGE)

    assert at_once(max_ram_bytes=2**36) is None
    assert at_once(max_ram_bytes=3 * 2**29) in (1, 2, 4)
    assert at_once(max_ram_bytes=1) == 1
    assert at_once(max_ram_bytes=1, engine="onnxruntime") is None
    assert at_once(max_ram_bytes=2**36, tiles_at_once=3) == 3


@pytest.mark.parametrize(
    ("engine", "has_gpu", "is_even"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("tensorrt", True, False),
        ("openvino", True, True),
    ],
)
def test_tiles_are_even_but_where_an_engine_is_built_for_each_size(
    monkeypatch: pytest.MonkeyPatch, *, engine: str, has_gpu: bool, is_even: bool
) -> None:
    monkeypatch.setattr(EngineEntry, "is_available", lambda _: has_gpu)
    slide = ArraySlide(np.broadcast_to(np.uint8(7), (2048, 1360)))
    job = prepare(slide, Bundle.open("nuclei"), InferOptions(engine=engine))
    assert job.plan.tile_hw == ((816, 784) if is_even else (1024, 1024))
    assert job.plan.grid == (3, 2)
    assert job.identity["tile_px"] == 1024
    blended = prepare(
        slide, Bundle.open("nuclei"), InferOptions(engine=engine, blend="hann", overlap=0.25)
    )
    assert blended.plan.tile_hw == (1024, 1024)
