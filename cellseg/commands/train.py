"""``cellseg-cli train`` and ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import load_recipe, needs_extra, reports_errors

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
    recipe: opt.RecipeName,
    data: opt.Data,
    model: opt.Model = "nuclei",
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="train, valid or test.")
    ] = "test",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Tables and a picture of the worst."),
    ] = None,
    engine: opt.Engine = "auto",
    precision: opt.Precision = "auto",
    verbose: opt.Verbose = False,
) -> None:
    """Score a bundle on labelled images (needs the train extra).

    Prints a table: Dice, F1 of objects at IoU 0.5 and count error, source by source; for a
    recipe of several classes the Dice of each.

    Examples
    --------
      cellseg-cli evaluate nuclei --data DATA
      cellseg-cli evaluate nuclei --data DATA --model my.cellseg -o report
    """
    resolved = load_recipe(recipe, None, verbose)
    with needs_extra("train"):
        from cellseg.train.evaluate import evaluate_bundle, format_table
        from cellseg.train.evaluate_classes import evaluate_classes, format_class_table
    if resolved.target.kind == "classes":
        scores = evaluate_classes(resolved, data, split, model, out, engine, precision)
        typer.echo(format_class_table(scores))
        return
    typer.echo(format_table(evaluate_bundle(resolved, data, split, model, out, engine, precision)))
