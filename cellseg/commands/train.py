"""``cellseg-cli train`` and ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import load_recipe, needs_extra, progress_bar, reports_errors

__all__ = ["evaluate", "train"]


@reports_errors
def train(
    recipe: opt.RecipeName,
    data: opt.Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="The run's folder; by default runs/<name>, or a .config file's model_dir.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    settings: opt.Settings = None,
    verbose: opt.Verbose = False,
) -> None:
    """Train a model from images and labels or masks (needs the train extra).

    The run's folder gets metrics.csv and its picture, a contact sheet of validation
    images, and the checkpoints that --resume and export use. A file named STOP in it
    ends the run after the epoch. No folder is ever deleted.

    A seed project's train_eval_infer.config is a recipe as it is.

    Examples
    --------
      cellseg-cli train train_eval_infer.config
      cellseg-cli train nuclei --data DATA -o runs/nuclei
      cellseg-cli train nuclei --data DATA -o runs/nuclei --resume
      cellseg-cli train my-recipe.toml --data . --set fit.epochs=5
    """
    resolved = load_recipe(recipe, settings, verbose)
    with needs_extra("train"):
        from cellseg.train.fit import train as train_model
        from cellseg.train.recipe import data_folder, run_folder
    root = data_folder(recipe, data)
    folder = run_folder(resolved, root, out)
    with progress_bar() as progress:
        typer.echo(train_model(resolved, root, folder, resume, progress))


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

    Prints a table: Dice, F1 of objects at IoU 0.5 and count error, source by source.

    Examples
    --------
      cellseg-cli evaluate nuclei --data DATA
      cellseg-cli evaluate nuclei --data DATA --model my.cellseg -o report
    """
    resolved = load_recipe(recipe, None, verbose)
    with needs_extra("train"):
        from cellseg.train.evaluate import evaluate_bundle, format_table
    typer.echo(format_table(evaluate_bundle(resolved, data, split, model, out, engine, precision)))
