"""Others on the same slide: the absent are named, pages are the record's, grids are theirs."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

MACHINE = {"cpu": "Some CPU", "cpu_flags": ["avx2"], "cores": 4, "system": "Linux 6"}


@pytest.fixture
def peers(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "bench")
    import peers as module

    return module


@pytest.fixture
def made(peers: ModuleType) -> dict[str, Any]:
    """Return a record with two contestants that ran and one that could not."""
    from contest import Tally
    from line_up import contestants

    ours, _, fast, *_, last = contestants(96)
    rows = [
        peers.Row(
            who,
            Tally([seconds], [seconds + 1], [2 * seconds], [400.0]),
            result_mb=1.5, flipped_per_million=0.0, flipped_inside_per_million=0.0, dice=1.0,
            truth_dice=0.9, cells=50, lost=lost, doubled=0,
        )
        for who, seconds, lost in ((ours, 10.0, 0), (fast, 15.0, 3))
    ]  # fmt: skip
    rows.append(peers.Row(last, failure="not installed within 15 minutes"))
    engine = {"engine": "openvino", "precision": "fp32", "mpx_s": [4.0], "failure": None}
    return {
        "machine": MACHINE, "slide": "made.tif", "slide_hw": [1000, 2000], "threads": 2,
        "model": {"name": "nuclei", "version": "1.2", "sha256": "ab" * 32}, "rounds": 1,
        "held_against": "the image in one call", "rows": [asdict(row) for row in rows],
        "engines": {"tile_px": 512, "rows": [
            engine | {"program": "cellseg"}, engine | {"program": "benchmark_app", "mpx_s": [5.0]},
        ]},
    }  # fmt: skip


def test_tables_have_ratios_resources_and_who_is_absent(
    peers: ModuleType, made: dict[str, Any]
) -> None:
    import peers_page

    text = peers_page.peers_markdown(made)
    assert (
        "| FAST, no overlap | fp32 | 512, 0.0 % | 15.0 (15.0 to 15.0) | 0.13 | 1.50x | - " in text
    )
    assert "| 30.0 | 400 MB | 1.5 MB |" in text
    assert "lost of 50 cells" in text
    assert "- seeds tiling, all threads: not installed within 15 minutes" in text
    assert "| openvino fp32 | benchmark_app | 5.00 (5.00 to 5.00) | 80% |" in (
        peers_page.engines_markdown(made)
    )


def test_the_page_draws_a_bar_for_each_that_ran_and_loads_nothing(
    peers: ModuleType, made: dict[str, Any]
) -> None:
    import peers_page

    page = peers_page.peers_html(made)
    assert page.count("<rect class=") == 6  # time, memory, harm; two contestants each
    assert page.count("<svg") == 3
    assert "http" not in page
    assert "not installed within 15 minutes" in page


def test_the_pages_in_the_repository_are_those_of_the_record(
    peers: ModuleType, repository: Path
) -> None:
    import peers_page

    path = repository / "bench" / "results" / "peers.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    again = "run: python bench/peers.py --page"
    assert path.with_suffix(".html").read_text(encoding="utf-8") == peers_page.peers_html(record)
    docs = (repository / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert f"<!-- peers:begin -->\n\n{peers_page.peers_markdown(record)}\n" in docs, again
    assert f"<!-- engines:begin -->\n\n{peers_page.engines_markdown(record)}\n" in docs, again


def test_who_has_no_environment_is_named_with_the_reason(peers: ModuleType, tmp_path: Path) -> None:
    from line_up import contestants

    (tmp_path / "lazyslide.not-made").write_text("not installed within 15 minutes\n")
    (tmp_path / "fast" / "bin").mkdir(parents=True)
    (tmp_path / "fast" / "bin" / "python").touch()
    options = argparse.Namespace(model="nuclei", envs=tmp_path, python=[])
    contest = peers.Field(options)
    why = {who.environment: contest.obstacle(who) for who in contestants(96)}
    assert why["ours"] is None
    assert why["fast"] is None
    assert why["lazyslide"] == "not installed within 15 minutes"
    assert "make_env.sh monai" in why["monai"]


def test_patches_of_other_sides_keep_what_leaves_no_seam(peers: ModuleType) -> None:
    from line_up import at_patches, contestants

    usual = contestants(96)
    assert at_patches(usual, (), 96) == usual
    rows = {who.name: who for who in at_patches(usual, (256, 512, 1024), 96)}
    assert rows["FAST, overlap to the halo, patch 256"].overlap == 2 * 96 / 256
    assert rows["MONAI sliding window, patch 1024"].overlap == 0.25
    assert rows["cellseg fp32"] == usual[0]
    assert len(rows) == len(usual) + 2 * sum(who.patch_px == 512 for who in usual)


def test_a_contestant_that_dies_is_a_row_and_the_rest_goes_on(
    peers: ModuleType, made: dict[str, Any]
) -> None:
    from cellseg.bench.rounds.process import Finish, ProcessFailed

    class Contest:
        options = argparse.Namespace(rounds=2)

        def run(self, who: Any) -> tuple[Finish, Path]:
            if who.name.startswith("FAST"):
                raise ProcessFailed("ended by SIGSEGV")
            return Finish(2.0, 100.0, 1.0, {"work_s": 1.5}), Path()

    from line_up import contestants

    rows = [peers.Row(who) for who in contestants(96)[:3]]
    peers.take_turns(Contest(), rows)
    assert [len(row.tally.seconds) for row in rows] == [2, 2, 0]
    assert rows[2].failure == "ended by SIGSEGV"
    assert rows[0].tally.cpu_s == [1.0, 1.0]


def test_pixels_in_the_frame_are_told_from_seams(peers: ModuleType) -> None:
    from line_up import OURS_FP32

    untiled = np.zeros((512, 512), np.uint8)
    untiled[200:220, 200:220] = 1
    found = untiled.copy()
    found[0, :100] = 1
    row = peers.Row(OURS_FP32)
    peers.compare(row, found, untiled)
    assert row.flipped_per_million == pytest.approx(100 / 512**2 * 1e6)
    assert (row.flipped_inside_per_million, row.cells, row.lost) == (0.0, 1, 0)


@pytest.mark.parametrize(
    ("width", "height", "calls"),
    [(4096, 3072, 49), (4096, 3084, 57), (3840, 2160, 41), (4288, 2848, 55), (6688, 4459, 127)],
)
def test_the_seeds_grid_asks_the_network_as_often_as_theirs(
    repository: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int, calls: int
) -> None:
    """The numbers of calls are those of the description that the driver follows."""
    from PIL import Image

    monkeypatch.syspath_prepend(repository / "bench" / "peers")
    import seeds_tiled

    asked: list[tuple[int, int]] = []

    def predict(session: Any, image: Any, side: int) -> Any:
        asked.append(image.size)
        return Image.new("L", image.size)

    monkeypatch.setattr(seeds_tiled, "_predict", predict)
    image, mask = Image.new("RGB", (width, height)), Image.new("L", (width, height))
    seeds_tiled.segment(None, image, mask, 512)
    assert len(asked) == calls
    assert asked[0] == (width, height)  # the image is always predicted whole, too
    assert asked[1] == (640, 640)  # no margin at the upper left
    assert (768, 768) in asked


def test_a_process_is_charged_for_its_time(tmp_path: Path) -> None:
    from cellseg.bench.rounds.process import run_process

    busy = "import time, json\nwhile time.process_time() < 0.2: pass\nprint(json.dumps({'a': 1}))"
    finish = run_process([sys.executable, "-c", busy], 30)
    assert 0.15 < finish.cpu_s < 5
