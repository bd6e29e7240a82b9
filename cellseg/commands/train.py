"""``cellseg-cli train`` and ``evaluate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cellseg.commands import instances as inst
from cellseg.commands import options as opt
from cellseg.commands.common import (
    load_recipe,
    needs_extra,
    print_json,
    reports_errors,
    show_logs,
)
from cellseg.errors import DataError

__all__ = ["evaluate", "train"]


@reports_errors
def train(
    recipe: opt.RecipeName,
    data: opt.Data,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="The run's folder; by default runs/<name>."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    settings: opt.Settings = None,
    verbose: opt.Verbose = False,
) -> None:
    """Train a model from images and labels (needs the train extra).

    The run's folder gets metrics.csv and its picture, a contact sheet of validation
    images, and the checkpoints that --resume and export use.

    Examples
    --------
      cellseg-cli train nuclei --data DATA -o runs/nuclei
      cellseg-cli train nuclei --data DATA -o runs/nuclei --resume
      cellseg-cli train my-recipe.toml --data . --set fit.epochs=5
    """
    resolved = load_recipe(recipe, settings, verbose)
    with needs_extra("train"):
        from cellseg.train.fit import train as train_model
    typer.echo(train_model(resolved, data, out or Path("runs") / resolved.name, resume))


@reports_errors
def evaluate(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="TOML file, or the name of a shipped recipe."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="Folder that the recipe's paths start from."),
    ] = None,
    model: opt.Model = "nuclei",
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="train, valid or test.")
    ] = "test",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Tables and a picture of the worst."),
    ] = None,
    instances: inst.Instances = False,
    pred: inst.Pred = None,
    truth: inst.Truth = None,
    bootstrap: inst.Replicates = 1000,
    seed: inst.Seed = 0,
    as_json: opt.AsJson = False,
    engine: opt.Engine = "auto",
    precision: opt.Precision = "auto",
    verbose: opt.Verbose = False,
) -> None:
    """Score a bundle on labelled images, or label images of any origin against true ones.

    With a RECIPE (needs the train extra) prints Dice, F1 of objects at IoU 0.5 and count error,
    source by source. With --instances: average precision (AP) at IoU 0.5 to 0.95, precision,
    recall, F1, panoptic quality, count error, split and merged cells, with 95 % intervals.

    Examples
    --------
      cellseg-cli evaluate nuclei --data DATA
      cellseg-cli evaluate nuclei --data DATA --model my.cellseg -o report
      cellseg-cli evaluate nuclei --data DATA --instances -o report
      cellseg-cli evaluate --instances --pred cellseg-out --truth DATA/test/labels
    """
    show_logs(verbose)
    if pred is not None or truth is not None:
        scores = inst.scores_of_folders(pred, truth)
        inst.print_scores(scores, bootstrap, seed, out, as_json)
        return
    if recipe is None or data is None:
        raise DataError(
            "evaluate takes a RECIPE with --data, or --pred with --truth. "
            f"Received: recipe={recipe}, data={data}.",
            hint="cellseg-cli evaluate nuclei --data DATA",
        )
    resolved = load_recipe(recipe, None, verbose)
    if instances:
        scores = inst.scores_of_model(resolved, data, split, model, engine, precision)
        inst.print_scores(scores, bootstrap, seed, out, as_json)
        return
    with needs_extra("train"):
        from cellseg.train.evaluate import evaluate_bundle, format_table
    summary = evaluate_bundle(resolved, data, split, model, out, engine, precision)
    if as_json:
        print_json({name: asdict(score) for name, score in summary.items()})
    else:
        typer.echo(format_table(summary))
