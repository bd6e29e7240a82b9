"""``cellseg-cli data stats``: what a data set holds, and whether a recipe fits it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import counted, load_recipe, print_json, reports_errors

if TYPE_CHECKING:
    from cellseg.data.stats.contents import Stats
    from cellseg.data.stats.recipe_fit import RecipeNeeds

__all__ = ["stats"]


@reports_errors
def stats(
    source: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of images and masks.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Write tables and a picture there."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help="Compare with its crop, stride, classes and what its network sees.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|PATH", help="Compare objects with what it sees."),
    ] = None,
    settings: opt.Settings = None,
    as_json: opt.AsJson = False,
) -> None:
    """Count images, objects and classes; measure sizes, intensity and stain.

    With --recipe each thing that does not fit is a note: objects larger than what the network
    sees or than a crop, images smaller than a crop, a crop that is no multiple of the stride,
    classes that the masks lack or the recipe does not know. -o writes stats.csv (a row an
    image), notes.csv, stats.json and stats.png.

    Examples
    --------
      cellseg-cli data stats data/mine -o report
      cellseg-cli data stats data/mine --recipe my-recipe.toml -o report
      cellseg-cli data stats data/mine --recipe nuclei --set fit.crop_px=256
      cellseg-cli data stats data/mine --model nuclei
    """
    from cellseg.data.stats.contents import measure_data
    from cellseg.data.stats.report import stats_json, write_stats

    needs = None if recipe is None else _needs(recipe, settings)
    field_px = None
    if model is not None:
        from cellseg.runtime.bundles.bundle import Bundle

        field_px = Bundle.open(model).manifest.receptive_field_px
    with counted("measuring") as progress:
        found = measure_data(source, progress)
    if out is not None:
        write_stats(found, out, field_px, needs)
    summary = stats_json(found, field_px, needs)
    if as_json:
        print_json(summary)
    else:
        _say(found, summary)


def _say(found: Stats, summary: dict[str, Any]) -> None:
    splits = ", ".join(f"{n} {name or 'not split'}" for name, n in summary["images"].items())
    typer.echo(f"images      {splits}\nobjects     {summary['objects']}")
    if summary["diameter_px"]:
        low, middle, high = summary["diameter_px"].values()
        typer.echo(f"diameter    {middle:g} px (5 %: {low:g}, 95 %: {high:g})")
    for name, pixels in found.class_pixels.items():
        weight = summary["class_weights"].get(name)
        shown = found.class_images.get(name, len(found.images))
        typer.echo(f"  {name:<14}{pixels:>14,} px, in {shown} images, weight {weight}")
    for text in summary["notes"]:
        typer.echo(f"note: {text}", err=True)


def _needs(name: str, settings: list[str] | None) -> RecipeNeeds:
    """Put a recipe into numbers; what its network sees is measured where Keras is installed."""
    from cellseg.data.stats.recipe_fit import RecipeNeeds

    recipe = load_recipe(name, settings, verbose=False)
    reach = None
    if find_spec("keras") is None:
        typer.echo(
            "note: what the network sees is not known: pip install 'cellseg[train]'", err=True
        )
    else:
        from cellseg.train.networks.model import reach_of

        reach = reach_of(recipe)
    instances, fit = recipe.target.kind == "instances", recipe.input.fit
    lookup = any(item.values for item in recipe.class_list) or len(recipe.class_list) > 2
    by_color = any(item.mask_colors for item in recipe.class_list)
    return RecipeNeeds(
        name=recipe.name,
        crop_wh=(recipe.fit.crop_px,) * 2 if instances else recipe.input.size_px,
        reduces=not instances and fit != "native",
        cuts=instances or fit != "whole",
        stride_px=recipe.model.stride,
        reach_px=reach,
        instances=instances,
        classes=tuple(
            (item.name, (item.values or (index,)) if lookup and not by_color else ())
            for index, item in enumerate(recipe.class_list)
        ),
    )
