"""The tables and files of an evaluation of instances."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from cellseg.runtime.evaluation.instances import THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellseg.runtime.evaluation.instances import InstanceScore
    from cellseg.runtime.evaluation.intervals import Bootstrap, Estimate
    from cellseg.runtime.evaluation.summary import InstanceSummary

__all__ = ["format_instances", "instances_as_dict", "write_instances"]

INSTANCES_SCHEMA = "cellseg.instances/1"
_DEFINITIONS = {
    "ap": "mean over IoU thresholds 0.50, 0.55 ... 0.95 of tp / (tp + fp + fn), objects of all "
    "images pooled; a match has IoU >= threshold (StarDist matching, 'accuracy')",
    "pq": "sum of IoU of pairs with IoU > 0.5, by (tp + fp/2 + fn/2); pq = sq * rq (Kirillov 2019)",
    "count_error": "|found - true| / true, over all images; count_bias keeps the sign",
    "splits": "true objects in which two or more predicted ones lie by more than half of each",
    "merges": "predicted objects in which two or more true ones lie by more than half of each",
    "adapted_rand_error": "scikit-image, ignore_labels=(0,), mean over images; vi_split and "
    "vi_merge likewise, in bits",
    "per_image": "mean of the images' own scores; 1 where neither side has an object",
}


def instances_as_dict(summaries: Sequence[InstanceSummary], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return what ``summary.json`` holds: JSON values."""
    return {
        "schema": INSTANCES_SCHEMA,
        "definitions": _DEFINITIONS,
        "intervals": {
            "method": "percentile bootstrap over images",
            "confidence": bootstrap.confidence,
            "replicates": bootstrap.replicates,
            "seed": bootstrap.seed,
        },
        "sources": {summary.source: summary.as_dict() for summary in summaries},
    }


def write_instances(
    folder: Path,
    scores: Sequence[InstanceScore],
    summaries: Sequence[InstanceSummary],
    bootstrap: Bootstrap,
) -> None:
    """Write ``per-image.csv``, worst first, and ``summary.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "per-image.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [_row(score) for score in sorted(scores, key=lambda s: (s.source, s.f1(), s.stem))]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = json.dumps(instances_as_dict(summaries, bootstrap), indent=2)
    (folder / "summary.json").write_text(f"{text}\n", encoding="utf-8")


def format_instances(summaries: Sequence[InstanceSummary], bootstrap: Bootstrap) -> str:
    """Format summaries as Markdown tables."""
    with_intervals = any(s.estimates["ap"].low is not None for s in summaries)
    note = (
        f"In brackets: {100 * bootstrap.confidence:.0f} % intervals, "
        f"{bootstrap.replicates} bootstrap samples of the images."
    )
    tables = [_overview(summaries), _counts(summaries), *map(_thresholds, summaries)]
    return "\n\n".join([*tables, *([note] if with_intervals else [])])


def _overview(summaries: Sequence[InstanceSummary]) -> str:
    names = ("ap", "f1_0.50", "pq", "sq", "rq")
    heads = ("source", "images", "AP 0.5–0.95", "F1 0.5", "PQ", "SQ", "RQ")
    rows = [
        (s.source, str(s.images), *(str(s.estimates[name]) for name in names)) for s in summaries
    ]
    return _table(heads, rows)


def _counts(summaries: Sequence[InstanceSummary]) -> str:
    heads = ("source", "true", "found", "count error", "per image", "split", "merged")
    rows = [
        (
            s.source,
            str(s.truth),
            str(s.predicted),
            _percent(s.estimates["count_error"]),
            _percent(s.estimates["count_error_per_image"]),
            f"{s.splits}, {_percent(s.estimates['split_rate'])}",
            f"{s.merges}, {_percent(s.estimates['merge_rate'])}",
        )
        for s in summaries
    ]
    return _table(heads, rows)


def _thresholds(summary: InstanceSummary) -> str:
    heads = (f"{summary.source}: IoU", "precision", "recall", "F1", "AP")
    rows = [
        (
            f"{iou:.2f}",
            *(str(summary.at(name, iou)) for name in ("precision", "recall", "f1", "ap")),
        )
        for iou in THRESHOLDS
    ]
    return _table(heads, rows)


def _row(score: InstanceScore) -> dict[str, Any]:
    by_threshold = {
        f"f1_{iou:.2f}": f"{score.f1(index):.4f}" for index, iou in enumerate(THRESHOLDS)
    }
    agreement = {
        name: "" if (value := getattr(score, name)) is None else f"{value:.4f}"
        for name in ("adapted_rand_error", "vi_split", "vi_merge")
    }
    return {
        "source": score.source,
        "stem": score.stem,
        "objects_found": score.predicted,
        "objects_true": score.truth,
        "count_error": f"{score.count_error:.4f}",
        "ap": f"{score.ap:.4f}",
        "pq": f"{score.pq:.4f}",
        "splits": score.splits,
        "merges": score.merges,
        **by_threshold,
        **agreement,
    }


def _percent(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{100 * found.value:.1f} %"
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f}–{100 * found.high:.1f})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown whose columns also line up as plain text."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([line(heads), rule, *map(line, rows)])
