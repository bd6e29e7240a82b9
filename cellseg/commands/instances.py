"""``cellseg-cli evaluate --instances``: its options, and what it prints and writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellseg.commands.common import needs_extra, print_json
from cellseg.errors import DataError

if TYPE_CHECKING:
    from cellseg.runtime.evaluation.instances import InstanceScore
    from cellseg.train.sections import Recipe

__all__ = ["print_scores", "scores_of_folders", "scores_of_model"]

_PANEL = "Cell by cell"

Instances = Annotated[
    bool,
    typer.Option(
        "--instances",
        help="Score cells, not pixels: AP, PQ, F1, counts, splits, merges.",
        rich_help_panel=_PANEL,
    ),
]
Pred = Annotated[
    Path | None,
    typer.Option(
        "--pred",
        metavar="FOLDER",
        help="Label images to score, or what infer -o made; needs no model and no recipe.",
        rich_help_panel=_PANEL,
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--truth",
        metavar="FOLDER",
        help="True label images of the same names.",
        rich_help_panel=_PANEL,
    ),
]
Replicates = Annotated[
    int,
    typer.Option(
        "--bootstrap",
        metavar="N",
        min=0,
        help="Samples of the images that intervals come from; 0 for none.",
        rich_help_panel=_PANEL,
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Of those samples.", rich_help_panel=_PANEL)
]


def scores_of_folders(predicted: Path | None, truth: Path | None) -> Iterator[InstanceScore]:
    """Score a folder of label images against another; or a file against a file.

    Raises
    ------
    DataError
        If one is missing, or they do not fit together.
    """
    from cellseg.runtime.evaluation.instances import score_instances
    from cellseg.runtime.evaluation.label_images import pair_label_images

    if predicted is None or truth is None:
        raise DataError(
            "Predicted and true label images come in pairs. "
            f"Received: pred={predicted}, truth={truth}.",
            hint="cellseg-cli evaluate --instances --pred RESULTS --truth DATA/test/labels",
        )
    pairs = pair_label_images(predicted, truth)
    for pair in _tracked(pairs, len(pairs)):
        found, true = pair.read()
        yield score_instances(found, true, pair.stem, "images")


def scores_of_model(
    recipe: Recipe, data: Path, split: str, model: str, engine: str, precision: str
) -> Iterator[InstanceScore]:
    """Score a bundle on the images of a recipe."""
    with needs_extra("train"):
        from cellseg.train.scores.instances import instance_scores
    return _tracked(instance_scores(recipe, data, split, model, engine, precision))


def print_scores(
    scores: Iterable[InstanceScore],
    replicates: int,
    seed: int,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Sum up and print; with a folder, keep tables in it."""
    from cellseg.runtime.evaluation import report
    from cellseg.runtime.evaluation.intervals import Bootstrap
    from cellseg.runtime.evaluation.summary import summarize_instances

    found, bootstrap = list(scores), Bootstrap(replicates, seed)
    summaries = summarize_instances(found, bootstrap)
    if folder is not None:
        report.write_instances(folder, found, summaries, bootstrap)
    if as_json:
        print_json(report.instances_as_dict(summaries, bootstrap))
        return
    typer.echo(report.format_instances(summaries, bootstrap))
    if folder is not None:
        typer.echo(f"\n{folder / 'per-image.csv'}\n{folder / 'summary.json'}")


def _tracked(items: Iterable[Any], total: int | None = None) -> Iterator[Any]:
    """Pass items on, with a bar on the terminal that goes when they are done."""
    from rich.progress import track

    from cellseg.console import stderr

    console = stderr()
    hidden = not console.is_terminal
    yield from track(items, "scoring", total, console=console, transient=True, disable=hidden)
