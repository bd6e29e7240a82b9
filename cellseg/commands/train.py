"""``cellseg-cli train`` and ``evaluate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cellseg.commands import instances as inst
from cellseg.commands import options as opt
from cellseg.commands import pixels as pix
from cellseg.commands.common import (
    load_recipe,
    needs_extra,
    print_json,
    progress_bar,
    reports_errors,
    show_logs,
)
from cellseg.errors import DataError

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
        from cellseg.train.recipe import data_folder, recipe_path, run_folder
    root = data_folder(recipe, data)
    folder = run_folder(resolved, recipe_path(recipe).parent, out)
    with progress_bar() as progress:
        typer.echo(train_model(resolved, root, folder, resume, progress))


@reports_errors
def evaluate(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="TOML file, a seed's .config file, or a shipped recipe's name."
        ),
    ] = None,
    data: opt.Data = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME|PATH",
            help="Bundle, run folder or .keras file; by default the recipe's own run, or nuclei.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="train, valid or test.")
    ] = "test",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Tables and a picture of the worst."),
    ] = None,
    tiled: Annotated[
        bool, typer.Option("--tiled", help="Also tile by tile, at the images' own scale.")
    ] = False,
    cam: Annotated[
        bool,
        typer.Option(
            "--cam",
            help="Also class activation maps (Seg-Grad-CAM): Keras models, on TensorFlow or torch.",
        ),
    ] = False,
    settings: opt.Settings = None,
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
    """Score a model on labelled images, or label images of any origin against true ones.

    With a RECIPE (needs the train extra) of cells prints Dice, F1 of objects at IoU 0.5 and count
    error, source by source. With a recipe of classes, or a Keras model: Dice, IoU, precision,
    recall and boundary F1, true per image and class, with a table of images, confusion matrix,
    calibration curve, threshold sweep and the best and worst images. With --instances:
    average precision (AP) at IoU 0.5 to 0.95, precision, recall, F1, panoptic quality, count
    error, split and merged cells, with 95 % intervals.

    Examples
    --------
      cellseg-cli evaluate train_eval_infer.config --tiled
      cellseg-cli evaluate my-recipe.toml --model my.cellseg --precision int8 -o report
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
    if recipe is None:
        raise DataError(
            "evaluate takes a RECIPE, or --pred with --truth. Received: neither.",
            hint="cellseg-cli evaluate nuclei --data DATA",
        )
    resolved = load_recipe(recipe, settings, verbose)
    with needs_extra("train"):
        from cellseg.train.recipe import data_folder, recipe_path
    root, home = data_folder(recipe, data), recipe_path(recipe).parent
    if not instances and pix.scores_pixels(resolved, model):
        ask = pix.Request(root, home, split, model, tiled, cam, out, engine, precision)
        pix.evaluate_pixels(resolved, ask, as_json)
        return
    bundle = model or "nuclei"
    if instances:
        scores = inst.scores_of_model(resolved, root, split, bundle, engine, precision)
        inst.print_scores(scores, bootstrap, seed, out, as_json)
        return
    with needs_extra("train"):
        from cellseg.train.evaluate import evaluate_bundle, format_table
    summary = evaluate_bundle(resolved, root, split, bundle, out, engine, precision)
    if as_json:
        print_json({name: asdict(score) for name, score in summary.items()})
    else:
        typer.echo(format_table(summary))
