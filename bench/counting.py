"""How well the shipped model finds and counts cells on the test splits, against what was wanted.

python bench/counting.py --data DATA [--model nuclei] [--precision auto]

Prints a Markdown table and keeps all scores in bench/results/counting.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cellseg.runtime.evaluation.intervals import Bootstrap, Estimate
from cellseg.runtime.evaluation.report import instances_as_dict
from cellseg.runtime.evaluation.summary import InstanceSummary, summarize_instances

RESULTS = Path(__file__).parent / "results" / "counting.json"
WANTED = {"dsb-fluorescence": (0.90, 0.05), "kromp": (0.78, 0.10), "dsb-he": (0.74, 0.10)}
"""Least F1 of objects at IoU 0.5 and largest count error, by source."""


def main() -> None:
    """Score, print, keep."""
    from cellseg.train.recipes.recipe import load_recipe
    from cellseg.train.scores.instances import instance_scores

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    scores = instance_scores(
        load_recipe("nuclei"), chosen.data, model=chosen.model, precision=chosen.precision
    )
    bootstrap = Bootstrap()
    summaries = summarize_instances(list(scores), bootstrap)
    found = {"model": chosen.model, "precision": chosen.precision}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found | instances_as_dict(summaries, bootstrap), indent=2)
    chosen.out.write_text(f"{text}\n", encoding="utf-8")
    print(table([summary for summary in summaries if summary.source in WANTED]))


def table(summaries: list[InstanceSummary]) -> str:
    """Format the scores beside what was wanted."""
    lines = [
        "| source | images | F1, mean of images | F1, pooled | wanted | count error | wanted |",
        "|---|---|---|---|---|---|---|",
    ]
    for summary in summaries:
        least_f1, most_error = WANTED[summary.source]
        by_name = summary.estimates
        lines.append(
            f"| {summary.source} | {summary.images} | {by_name['f1_per_image']} "
            f"| {by_name['f1_0.50']} | >= {least_f1:.2f} | {_percent(by_name['count_error'])} "
            f"| <= {100 * most_error:.0f} % |"
        )
    return "\n".join(lines)


def _percent(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{100 * found.value:.1f} %"
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f}–{100 * found.high:.1f})"


if __name__ == "__main__":
    main()
