"""``cellseg-cli evaluate`` of pixels, and ``infer`` of a recipe, by whatever model it means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cellseg.commands.common import load_recipe, needs_extra, print_json, progress_bar
from cellseg.errors import DataError

if TYPE_CHECKING:
    from cellseg.train.networks.predict import Predictor
    from cellseg.train.sections import Recipe

__all__ = ["Request", "evaluate_pixels", "infer_recipe", "is_recipe_file", "scores_pixels"]

RECIPE_SUFFIXES = (".toml", ".config", ".cfg", ".conf", ".ini")


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    root: Path
    """Folder that the recipe's data lie in."""

    home: Path
    """Folder that the recipe's run lies in: its file's."""

    split: str
    """train, valid or test."""

    model: str | None
    """Bundle, run folder or ``.keras`` file; None: the recipe's own run."""

    tiled: bool
    """Also in tiles."""

    cam: bool
    """Also class activation maps."""

    out: Path | None
    """Where files go."""

    engine: str
    """For a bundle."""

    precision: str
    """For a bundle."""


def scores_pixels(recipe: Recipe, model: str | None) -> bool:
    """Tell whether pixels are what is scored: classes are asked for, or the model is no bundle."""
    if recipe.target.kind == "classes":
        return True
    return model is not None and (Path(model).is_dir() or Path(model).suffix == ".keras")


def evaluate_pixels(recipe: Recipe, ask: Request, as_json: bool) -> None:
    """Score and write; prints a table, or JSON."""
    with needs_extra("train"):
        from cellseg.train.scores.pixel_report import format_scores, report_pixels
    recipe, predictor, folder = _open(recipe, ask)
    ways = ("plain", "tiled") if ask.tiled else ("plain",)
    out = ask.out or (None if folder is None else folder / f"evaluation-{ask.split}")
    if ask.cam:
        from cellseg.train.scores.cam import require_cam, write_cams

        require_cam(predictor)
        if out is None:
            raise DataError("--cam writes pictures and needs a folder. Received: no --out.")
    with progress_bar() as progress:
        found = report_pixels(recipe, ask.root, ask.split, predictor, ways, out, progress)
        if ask.cam and out is not None:
            write_cams(recipe, ask.root, ask.split, predictor, out / "cam", progress)
    if as_json:
        print_json(found)
    else:
        typer.echo(format_scores(found))
        if out is not None:
            typer.echo(out)


def is_recipe_file(text: str) -> bool:
    """Tell a recipe among inputs, by its suffix."""
    return Path(text).suffix.lower() in RECIPE_SUFFIXES and Path(text).is_file()


def infer_recipe(
    name: str,
    model: str | None,
    out: Path | None,
    engine: str,
    precision: str,
    as_json: bool,
    verbose: bool,
) -> None:
    """Segment the folders that a recipe names, and print where the masks are."""
    recipe = load_recipe(name, None, verbose)
    with needs_extra("train"):
        from cellseg.train.scores.apply import apply_recipe
    root = Path(name).parent
    ask = Request(root, root, "test", model, False, False, out, engine, precision)
    recipe, predictor, _ = _open(recipe, ask)
    with progress_bar() as progress:
        folders = [str(made) for made in apply_recipe(recipe, root, predictor, progress, out)]
    if as_json:
        print_json({"folders": folders})
    else:
        typer.echo("\n".join(folders))


def _open(recipe: Recipe, ask: Request) -> tuple[Recipe, Predictor, Path | None]:
    """Open the model: the recipe it was trained with, itself, and the run's folder if it is one."""
    with needs_extra("train"):
        from cellseg.train.networks.predict import open_predictor
        from cellseg.train.recipes.recipe import recipe_of_run, run_folder
    chosen = Path(ask.model) if ask.model is not None else run_folder(recipe, ask.home)
    if ask.model is None and not chosen.is_dir():
        raise DataError(
            f"a recipe's run must be there. Received: none at {chosen}.",
            hint="train first: cellseg-cli train RECIPE; or name a model with --model.",
        )
    folder = chosen if chosen.is_dir() else None
    beside = chosen.parent if chosen.suffix == ".keras" else folder
    trained = recipe if beside is None else recipe_of_run(beside, recipe)
    name = chosen if chosen.exists() else str(ask.model)
    predictor = open_predictor(name, trained, engine=ask.engine, precision=ask.precision)
    return trained, predictor, folder
