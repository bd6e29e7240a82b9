"""``cellseg-cli inspect`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import needs_extra, print_json, reports_errors
from cellseg.commands.recipe import described

__all__ = ["doctor", "inspect"]


_RECIPES = (".toml", ".config", ".ini")  # the seeds' files are recipes as well


@reports_errors
def inspect(
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="Slide, image, bundle, recipe, or a shipped model."),
    ],
    mpp: opt.Mpp = None,
    channel: opt.Channel = None,
    as_json: opt.AsJson = False,
) -> None:
    """Describe a slide, a bundle or a training recipe.

    Examples
    --------
      cellseg-cli inspect slide.svs        levels, pixel size, compression
      cellseg-cli inspect nuclei           classes, halo, quality of each variant
      cellseg-cli inspect my-recipe.toml   every setting of a run, and what its network costs
    """
    from cellseg.runtime import inspect as inspection

    if Path(path).suffix in _RECIPES:
        _inspect_recipe(path, as_json)
        return
    is_bundle = inspection.is_bundle_name(path)
    if is_bundle:
        found = inspection.describe_bundle(path)
    else:
        found = inspection.describe_slide(path, mpp, channel)
    if as_json:
        print_json(found)
    else:
        typer.echo(inspection.format_description(found))


def _inspect_recipe(path: str, as_json: bool) -> None:
    with needs_extra("train"):
        from cellseg.train.recipes.recipe import load_recipe
    recipe = load_recipe(path)
    if as_json:
        with needs_extra("train"):
            from cellseg.train.networks.model import summarize_network
        network = summarize_network(recipe).as_dict()
        plain = recipe.model_dump(mode="json")
        print_json({"kind": "recipe", "path": path, "recipe": plain, "network": network})
        return
    typer.echo(described(recipe))


@reports_errors
def doctor(as_json: opt.AsJson = False) -> None:
    """Say what this machine can run, and how to mend what it cannot.

    Exit code 1 if no inference engine works, or not all libraries that every run needs.

    Examples
    --------
      cellseg-cli doctor
      cellseg-cli doctor --json > machine.json
    """
    from cellseg.runtime.doctor import examine, format_examination

    seen = examine()
    if as_json:
        print_json(seen.as_dict())
    else:
        typer.echo(format_examination(seen))
    if not seen.can_infer:
        raise typer.Exit(1)
