"""``cellseg-cli data ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import load_recipe, needs_extra, progress_bar, reports_errors

__all__ = ["make_slide", "preview"]


@reports_errors
def make_slide(
    out: Annotated[Path, typer.Argument(metavar="FILE.tif", help="Slide to write.")],
    images: Annotated[
        Path,
        typer.Option("--images", metavar="FOLDER", help="Labelled images: images/ masks/ labels/."),
    ],
    size: Annotated[
        Any,
        typer.Option("--size", metavar="WxH", parser=opt.parse_size, help="Pixels at level 0."),
    ] = "16384x16384",
    tissue: Annotated[
        float, typer.Option("--tissue", metavar="0..1", help="Part of it that is tissue.")
    ] = 0.6,
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same slide.")] = 0,
) -> None:
    """Make a slide of any size from real labelled images, with its exact truth beside it.

    Example:
      cellseg-cli data make-slide big.tif --images DATA/dsb/train --size 16384x16384
    """
    from cellseg.bench.make_slide import make_slide as make

    made = make(out, size, tissue, seed, images)
    typer.echo(f"{made.slide}\n{made.classes}\n{made.instances}")
    width, height = made.size_wh
    typer.echo(f"{width} x {height} px, {made.tissue:.0%} tissue, {made.objects} objects", err=True)


@reports_errors
def preview(
    recipe: opt.RecipeName,
    data: opt.Data = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.png", help="Picture to write.")
    ] = Path("preview.png"),
    count: Annotated[
        int, typer.Option("--count", min=1, max=300, help="Pairs of image and mask.")
    ] = 24,
    settings: opt.Settings = None,
    verbose: opt.Verbose = False,
) -> None:
    """Draw images and masks exactly as training sees them, augmentation included.

    Example:
      cellseg-cli data preview nuclei --data DATA -o sheet.png
    """
    resolved = load_recipe(recipe, settings, verbose)
    with needs_extra("train"):
        from cellseg.train.preview import preview_sheet
        from cellseg.train.recipe import data_folder
    with progress_bar() as progress:
        preview_sheet(resolved, data_folder(recipe, data), out, count, progress)
    typer.echo(out)
