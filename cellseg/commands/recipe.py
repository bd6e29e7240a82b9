"""``cellseg-cli recipe ...``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import load_recipe, needs_extra, print_json, reports_errors, show_logs
from cellseg.errors import RecipeError

if TYPE_CHECKING:
    from cellseg.train.sections import Recipe

__all__ = ["check", "convert", "described", "list_recipes", "schema"]

ConfigFile = Annotated[
    Path, typer.Argument(metavar="FILE.config", help="A seed's train_eval_infer.config.")
]


@reports_errors
def convert(
    config: ConfigFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.toml", help="Write here; by default print."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Turn a seed's INI file into a recipe in TOML.

    Values are read, never evaluated. What was mended, and which keys have no effect and why, is
    said on stderr.

    Example:
      cellseg-cli recipe convert train_eval_infer.config -o skin.toml
    """
    show_logs(False)
    from cellseg.train.recipes.recipe import check_recipe
    from cellseg.train.recipes.toml_text import recipe_text
    from cellseg.train.seed.convert import convert_config

    found = convert_config(config)
    recipe = check_recipe(found.tree, config)
    for note in (*found.notes, *found.unused):
        typer.echo(note, err=True)
    text = recipe_text(recipe, (f"Converted from {config.name} by cellseg-cli recipe convert.",))
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists() and not force:
        raise RecipeError(
            f"a converted recipe replaces no file. Received: {out}, which is there.",
            hint="choose another name, or add --force.",
        )
    out.write_text(text, encoding="utf-8")
    typer.echo(out)


@reports_errors
def check(
    recipe: opt.RecipeName,
    data: opt.Data = None,
    settings: opt.Settings = None,
    verbose: opt.Verbose = False,
) -> None:
    """Check a recipe, and with --data that its images and masks fit together; trains nothing.

    Where Keras is installed (the train extra) the network is summed up: parameters,
    multiply-adds, how far it sees, the halo its tiles need, whether they are exact.

    Examples
    --------
      cellseg-cli recipe check my-recipe.toml
      cellseg-cli recipe check train_eval_infer.config --data .
    """
    resolved = load_recipe(recipe, settings, verbose)
    typer.echo(described(resolved))
    if data is None:
        return
    with needs_extra("train"):
        from cellseg.train.tasks.task import open_task
    typer.echo(f"\n{open_task(resolved, data).summary}")


def described(recipe: Recipe) -> str:
    """Set out a recipe's keys and, where Keras is installed, what its network is like."""
    from cellseg.train.recipes.recipe import describe_recipe

    lines = ["not summed up: Keras is not installed (pip install 'cellseg[train]')"]
    if find_spec("keras") is not None:
        from cellseg.train.networks.model import summarize_network

        lines = summarize_network(recipe).lines()
    return "\n".join([describe_recipe(recipe), "", "network", *(f"  {line}" for line in lines)])


@reports_errors
def schema() -> None:
    """Print the JSON Schema of recipes, for editors that complete and check TOML.

    Example:
      cellseg-cli recipe schema > recipe.schema.json
    """
    from cellseg.train.recipes.recipe import recipe_schema

    print_json(recipe_schema())


@reports_errors
def list_recipes(as_json: opt.AsJson = False) -> None:
    """List the recipes in this package.

    Examples
    --------
      cellseg-cli recipe list
      cellseg-cli train nuclei --data DATA
    """
    from cellseg.train.recipes.recipe import load_recipe, shipped_recipes

    found = {name: load_recipe(name) for name in shipped_recipes()}
    if as_json:
        print_json({name: recipe.bundle.description for name, recipe in found.items()})
        return
    width = max(map(len, found))
    for name, recipe in found.items():
        typer.echo(f"{name:<{width}}  {recipe.bundle.description}")
