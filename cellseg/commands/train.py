"""``cellseg-cli train`` and ``evaluate``."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from cellseg.commands import instances as inst
from cellseg.commands import options as opt
from cellseg.commands import pixels as pix
from cellseg.commands import train_options as own
from cellseg.commands.begin import begin_file
from cellseg.commands.common import (
    load_recipe,
    needs_extra,
    print_json,
    progress_bar,
    reports_errors,
    show_logs,
)
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellseg.train.sections import Recipe

__all__ = ["evaluate", "train"]

_LOG = logging.getLogger(__name__)
_USUAL_MODEL = "nuclei"
_SPLITS = ("train", "valid", "test")
_FILES_HINT = "Leave it out; or leave --pred and --truth out, and a model is scored."
_CELLS_HINT = "They are for pixels: name the run's folder or its best.keras with --model."


@reports_errors
def train(
    recipe: opt.RecipeName,
    data: opt.Data = None,
    out: own.RunFolder = None,
    begin: own.Begin = None,
    resume: own.Resume = False,
    settings: opt.Settings = None,
    verbose: opt.Verbose = False,
) -> None:
    """Train a model from images and labels or masks (needs the train extra).

    The run's folder gets metrics.csv and its picture, a contact sheet of validation
    images, and the checkpoints that --resume and export use. A file named STOP in it
    ends the run after the epoch. No folder is ever deleted.

    With --from nuclei the shipped model learns your stain from a few images of yours: fewer
    epochs and a smaller fit.learning_rate are enough then.

    A seed project's train_eval_infer.config is a recipe as it is.

    Examples
    --------
      cellseg-cli train train_eval_infer.config
      cellseg-cli train nuclei --data DATA -o runs/nuclei
      cellseg-cli train nuclei --data DATA -o runs/nuclei --resume
      cellseg-cli train my-recipe.toml --data . --set fit.epochs=5
      cellseg-cli train my-recipe.toml --from nuclei --set fit.learning_rate=5e-4
    """
    if begin is not None:
        settings = [*(settings or ()), f"fit.init={begin}"]
    resolved = load_recipe(recipe, settings, verbose)
    with needs_extra("train"):
        from cellseg.train.loop.fit import train as train_model
        from cellseg.train.recipes.recipe import data_folder, recipe_path, run_folder
    root = data_folder(recipe, data)
    folder = run_folder(resolved, recipe_path(recipe).parent, out)
    keras_file = begin_file(resolved, folder, resume)
    try:
        with progress_bar() as progress:
            typer.echo(train_model(resolved, root, folder, resume, progress, keras_file))
    except KeyboardInterrupt:
        typer.echo("interrupted; finished epochs are kept", err=True)
        typer.echo("\nhint: the same command with --resume goes on from there.", err=True)
        raise typer.Exit(130) from None


@reports_errors
def evaluate(
    recipe: own.ScoredRecipe = None,
    data: opt.Data = None,
    model: own.ScoredModel = None,
    split: own.Split = "test",
    out: own.ReportOut = None,
    tiled: own.Tiled = False,
    cam: own.Cam = False,
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
    pixels_only = {"--tiled": tiled, "--cam": cam}
    if pred is not None or truth is not None:
        of_models = {"a RECIPE": recipe, "--data": data, "--model": model, "--set": settings}
        _refuse_unused(
            "--pred and --truth compare files", {**of_models, **pixels_only}, _FILES_HINT
        )
        scores = inst.scores_of_folders(pred, truth)
        inst.print_scores(scores, bootstrap, seed, out, as_json)
        return
    if recipe is None:
        raise DataError(
            "evaluate takes a RECIPE, or --pred with --truth. Received: neither.",
            hint="cellseg-cli evaluate nuclei --data DATA",
        )
    if split not in _SPLITS:
        raise DataError(f"--split must be train, valid or test. Received: {split}.")
    resolved = load_recipe(recipe, settings, verbose)
    by_cells = instances or not pix.scores_pixels(resolved, model)
    if by_cells:
        _refuse_unused("cells are scored by a bundle alone", pixels_only, _CELLS_HINT)
    if by_cells and model is None:
        _LOG.info("model: the shipped %s; --model names another", _USUAL_MODEL)
    with needs_extra("train"):
        from cellseg.train.recipes.recipe import data_folder, recipe_path
    root, home = data_folder(recipe, data), recipe_path(recipe).parent
    ask = pix.Request(root, home, split, model, tiled, cam, out, engine, precision)
    if instances:
        bundle = model or _USUAL_MODEL
        scores = inst.scores_of_model(resolved, root, split, bundle, engine, precision)
        inst.print_scores(scores, bootstrap, seed, out, as_json)
    elif by_cells:
        _evaluate_objects(resolved, ask, as_json)
    else:
        pix.evaluate_pixels(resolved, ask, as_json)


def _refuse_unused(scored: str, options: Mapping[str, object], hint: str) -> None:
    """Refuse what the chosen scores do not take: it would be believed to count."""
    named = [name for name, given in options.items() if given]
    if named:
        raise DataError(f"{scored}. Received: {', '.join(named)} as well.", hint=hint)


def _evaluate_objects(recipe: Recipe, ask: pix.Request, as_json: bool) -> None:
    """Score the cells of a bundle, source by source."""
    with needs_extra("train"):
        from cellseg.train.scores.evaluate import evaluate_bundle, format_table
    bundle = ask.model or _USUAL_MODEL
    summary = evaluate_bundle(
        recipe, ask.root, ask.split, bundle, ask.out, ask.engine, ask.precision
    )
    if as_json:
        print_json({name: asdict(score) for name, score in summary.items()})
    else:
        typer.echo(format_table(summary))
