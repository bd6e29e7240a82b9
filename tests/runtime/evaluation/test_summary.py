"""Pooled scores, means over images, and the intervals around them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cellseg.runtime.evaluation.instances import InstanceScore, score_instances
from cellseg.runtime.evaluation.intervals import Bootstrap
from cellseg.runtime.evaluation.report import format_instances, write_instances
from cellseg.runtime.evaluation.summary import ALL, summarize_instances


def image(cells: int, missed: int, source: str = "a", stem: str = "x") -> InstanceScore:
    """Cells of one pixel each, some of them not found."""
    truth = np.zeros((1, 2 * cells), int)
    truth[0, ::2] = np.arange(1, cells + 1)
    return score_instances(np.where(truth > missed, truth, 0), truth, stem, source)


def test_objects_are_pooled_and_images_averaged() -> None:
    (summary,) = summarize_instances([image(9, 0), image(1, 1)])
    values = {name: found.value for name, found in summary.estimates.items()}
    assert values["recall_0.50"] == pytest.approx(0.9)
    assert values["precision_0.50"] == 1.0
    assert values["f1_0.50"] == pytest.approx(18 / 19)
    assert values["f1_per_image"] == pytest.approx(0.5)
    assert values["ap"] == pytest.approx(0.9)
    assert (values["count_error"], values["count_bias"]) == pytest.approx((0.1, -0.1))
    assert values["count_error_per_image"] == pytest.approx(0.5)
    assert values["sq"] * values["rq"] == pytest.approx(values["pq"])


def test_intervals_are_those_of_drawing_images_one_by_one() -> None:
    scores = [image(10, missed) for missed in (0, 1, 2, 5, 9)]
    (summary,) = summarize_instances(scores, Bootstrap(replicates=4000, seed=1))
    rng = np.random.default_rng(2)
    recalls = [
        1 - np.mean([(0, 1, 2, 5, 9)[index] for index in rng.integers(0, 5, 5)]) / 10
        for _ in range(4000)
    ]
    found = summary.estimates["recall_0.50"]
    assert (found.low, found.high) == pytest.approx(np.quantile(recalls, (0.025, 0.975)), abs=0.05)
    assert found.low < found.value < found.high


def test_the_same_seed_gives_the_same_intervals_and_another_does_not() -> None:
    scores = [image(10, missed) for missed in (0, 3, 4, 8)]
    one, same, other = (
        summarize_instances(scores, Bootstrap(50, seed))[0].estimates["ap"] for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize(("images", "replicates"), [(1, 100), (3, 0)])
def test_too_little_to_draw_from_gives_no_interval(images: int, replicates: int) -> None:
    (summary,) = summarize_instances(images * [image(4, 1)], Bootstrap(replicates))
    assert summary.estimates["ap"].low is None
    assert "(" not in format_instances([summary], Bootstrap(replicates))


def test_nothing_to_find_and_nothing_found_is_perfect() -> None:
    empty = np.zeros((3, 3), int)
    (summary,) = summarize_instances([score_instances(empty, empty)] * 2)
    values = {name: found.value for name, found in summary.estimates.items()}
    assert {values[name] for name in ("ap", "pq", "f1_0.50", "precision_0.95")} == {1.0}
    assert values["count_error"] == 0.0


def test_several_sources_are_also_summed_up() -> None:
    summaries = summarize_instances([image(3, 0), image(5, 1, "b")])
    assert [(s.source, s.images, s.truth) for s in summaries] == [
        ("a", 1, 3), ("b", 1, 5), (ALL, 2, 8),
    ]  # fmt: skip


def test_files_hold_every_image_worst_first_and_every_threshold(tmp_path: Path) -> None:
    scores, how = [image(4, 0, stem="good"), image(4, 3, stem="bad")], Bootstrap(20)
    write_instances(tmp_path, scores, summarize_instances(scores, how), how)
    rows = list(csv.DictReader((tmp_path / "per-image.csv").read_text().splitlines()))
    assert [row["stem"] for row in rows] == ["bad", "good"]
    assert (rows[0]["objects_found"], rows[0]["f1_0.50"]) == ("1", "0.4000")
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    found = summary["sources"]["a"]
    assert [each["iou"] for each in found["thresholds"]] == pytest.approx(np.arange(0.5, 1, 0.05))
    assert found["ap"]["low"] <= found["ap"]["value"] == 0.625 <= found["ap"]["high"]
    assert summary["intervals"]["replicates"] == 20
