"""The training run: one folder that can be stopped, resumed and exported.

The folder holds::

    recipe.json     the resolved recipe              model.json   what the bundle will say
    best.keras      best validation, averaged weights last.keras   where a resume goes on
    metrics.csv     one row an epoch                 metrics.png  its picture
    contact.jpg     validation images, truth and prediction side by side
    epochs-*.png    what the network said of a few images, a row an epoch

A file named ``STOP`` in the folder ends the run after the epoch; a run never deletes a folder.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras

from cellseg.errors import RecipeError, TrainingError
from cellseg.runtime.machine.malloc import freed_memory_kept
from cellseg.runtime.writers.atomic import replacing
from cellseg.train.loop.callbacks import EpochEnd, LossGuard, MeanWeights, Reporter, SeededDropout
from cellseg.train.loop.run_state import RunState
from cellseg.train.loop.watch import Watch, require_tensorboard
from cellseg.train.networks.model import build_network, kflop_per_pixel, load_network, take_over
from cellseg.train.networks.norms import settle_norms
from cellseg.train.recipes.recipe import read_run_recipe
from cellseg.train.schedule import make_optimizer, rate_schedule
from cellseg.train.tasks.task import open_task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cellseg.train.progress import Progress
    from cellseg.train.sections import FitRecipe, Recipe
    from cellseg.train.tasks.task import Task

__all__ = ["check_folder", "train", "write_model_facts"]

log = logging.getLogger("cellseg.train")

_SETTLING_STEPS = 25  # batches that the norms of a bundle's network are measured on


def train(
    recipe: Recipe,
    data_root: Path,
    folder: Path,
    resume: bool = False,
    progress: Progress | None = None,
    begin: Path | None = None,
) -> Path:
    """Train a model and return the run's folder.

    Parameters
    ----------
    recipe : Recipe
        What to train, on what.
    data_root : Path
        Folder the recipe's paths are relative to.
    folder : Path
        The run's folder; made if missing.
    resume : bool
        Go on from ``last.keras`` in ``folder``.
    progress : callable, optional
        Called with what is going on, how far it is, and how far it goes.
    begin : Path, optional
        Keras file to begin with, in place of the one that ``fit.init`` names.

    Raises
    ------
    CellsegError
        If TensorBoard is asked for and not installed.
    RecipeError
        If ``folder`` holds a run and ``resume`` is false, or another recipe's run.
    DataError
        If images and masks do not fit together.
    TrainingError
        If the loss is no number; the last good weights are kept. Or if the loss of validation is
        none in any epoch.
    """
    check_folder(recipe, folder, resume)
    if recipe.watch.tensorboard:
        require_tensorboard()
    task = open_task(recipe, data_root, progress)
    keras.utils.set_random_seed(recipe.fit.seed)
    steps = task.crops(0).steps_per_epoch
    model, state = _model_and_state(task, folder, resume, begin)
    _prepare_folder(recipe, folder)  # not before: what failed so far can be called again as it was
    crops = task.crops(state.epoch * steps)
    best = _network(recipe, "float32")
    log.info(
        "parameters=%d kflop_per_px=%.1f %s",
        best.count_params(),
        kflop_per_pixel(best),
        task.summary,
    )
    write_model_facts(task, best, folder)
    if done := _why_done(recipe.fit, state):
        log.warning("nothing is left to train: %s", done)
    else:
        with freed_memory_kept():
            _fit(task, model, best, state, crops, folder, progress)
    _check_best(recipe.fit, state, folder)
    task.show(load_network(folder / "best.keras"), folder / "contact.jpg")
    return folder


def _why_done(fit: FitRecipe, state: RunState) -> str | None:
    """Say why a run is at its end, if it is."""
    if state.epoch >= fit.epochs:
        return f"all {fit.epochs} epochs are done"
    if state.is_out_of_patience(fit.patience):
        return f"no better validation for {fit.patience} epochs (fit.patience)"
    return None


def _check_best(fit: FitRecipe, state: RunState, folder: Path) -> None:
    if fit.keep == "best" and state.best_epoch < 0:
        raise TrainingError(
            "a run keeps the weights of an epoch whose validation loss is a number. "
            f"Received: none in {state.epoch} epochs, see {folder / 'metrics.csv'}.",
            hint="lower fit.learning_rate, use fit.precision float32, and look at the validation "
            "images and their masks; then train in a new folder.",
        )


def _fit(
    task: Task,
    model: keras.Model,
    best: keras.Model,
    state: RunState,
    crops: Any,
    folder: Path,
    progress: Progress | None,
) -> None:
    fit, steps = task.recipe.fit, crops.steps_per_epoch
    averaging = [MeanWeights(fit.ema, state, state.epoch * steps)] if fit.ema > 0 else []
    model.fit(
        crops,
        steps_per_epoch=steps,
        epochs=fit.epochs,
        initial_epoch=state.epoch,
        shuffle=False,  # or Keras reorders the steps, and a resumed run differs
        verbose=0,
        callbacks=[
            LossGuard(folder, task.crops(0), state),
            *averaging,
            SeededDropout(fit.seed),
            Reporter(steps, progress),
            EpochEnd(task, folder, state, best, Watch(task, folder)),
        ],
    )


def write_model_facts(task: Task, model: keras.Model, folder: Path) -> None:
    """Write ``model.json``: what the exporter puts into the bundle's manifest."""
    recipe, bundle = task.recipe, task.recipe.bundle
    fit = "native" if recipe.fit_hw is None else recipe.input.fit
    facts = {
        "name": recipe.name,
        "version": bundle.version,
        "description": bundle.description,
        "license": bundle.license,
        "classes": [{"name": item.name, "color": list(item.color)} for item in recipe.class_list],
        **task.facts(),
        "mpp": recipe.mpp,
        "stride": recipe.model.stride,
        "input": {"normalize": recipe.normalize.model_dump(), "fit": fit, "fit_px": recipe.fit_hw},
        "provenance": {
            "recipe": recipe.model_dump(mode="json"),
            "parameters": model.count_params(),
            "kflop_per_px": round(kflop_per_pixel(model), 2),
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        },
    }
    _write_json(folder / "model.json", facts)


def check_folder(recipe: Recipe, folder: Path, resume: bool) -> None:
    """Refuse a folder that holds a run, but to go on with that run.

    Raises
    ------
    RecipeError
        If ``resume`` is false, the run began with another recipe, or its recipe cannot be read.
    """
    path, resolved = folder / "recipe.json", recipe.model_dump(mode="json")
    if not path.exists():
        return
    if not resume:
        raise RecipeError(
            f"a run's folder is used once. Received: {folder} holds a run.",
            hint="add --resume to go on with it, or choose another folder.",
        )
    earlier = read_run_recipe(path)
    # A run may be made shorter or longer: its schedule then ends elsewhere.
    earlier["fit"] = earlier.get("fit", {}) | {"epochs": recipe.fit.epochs}
    if _with_defaults(earlier) != resolved:
        raise RecipeError(
            "a run resumes with the recipe it began with, but for fit.epochs. "
            f"Received: another one for {folder}.",
            hint=f"the run's own recipe is in {path}; choose another folder for a new one.",
        )


def _with_defaults(resolved: dict[str, Any]) -> dict[str, Any] | None:
    """Fill in keys that are younger than a run's recipe; None where it is no recipe any more."""
    from pydantic import ValidationError

    from cellseg.train.sections import Recipe as Current

    try:
        return Current.model_validate(resolved).model_dump(mode="json")
    except ValidationError:
        return None


def _prepare_folder(recipe: Recipe, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "recipe.json", recipe.model_dump(mode="json"))


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")


def _model_and_state(
    task: Task, folder: Path, resume: bool, begin: Path | None
) -> tuple[keras.Model, RunState]:
    recipe, crops = task.recipe, task.crops(0)
    steps = crops.steps_per_epoch
    if resume and RunState.is_in(folder):
        log.info("going on from %s", folder / "last.keras")
        with _policy(recipe.fit.precision):  # or a loss scale that was saved finds no place
            model = load_network(folder / "last.keras", compiled=True)
        if recipe.fit.schedule != "plateau":  # its end may have been moved
            model.optimizer.learning_rate = rate_schedule(recipe.fit, steps)
        return model, RunState.load(folder)
    model = _network(recipe, recipe.fit.precision, taught=True)
    if recipe.fit.init is not None:
        taken, whole = take_over(model, load_network(begin or _path(recipe.fit.init)))
        log.info("begun with %d of %d weights of %s", taken, whole, recipe.fit.init)
        seen = range(min(_SETTLING_STEPS, len(crops)))
        settle_norms(model, (crops[step][0] for step in seen))
    model.compile(make_optimizer(recipe.fit, steps), task.loss())
    return model, RunState()


def _network(recipe: Recipe, precision: str, taught: bool = False) -> keras.Model:
    with _policy(precision):
        return build_network(recipe, taught)


@contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Set the policy of arithmetic; afterwards the global one is as it was."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _path(text: str) -> Path:
    from pathlib import Path as PathOf

    return PathOf(text)
