"""``cellseg-cli verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import counted, print_json, reports_errors, show_logs
from cellseg.errors import CellsegError

__all__ = ["verify"]


@reports_errors
def verify(
    path: opt.Input,
    model: opt.Model = "nuclei",
    mpp: opt.Mpp = None,
    channel: opt.Channel = None,
    fit: opt.Fit = "auto",
    windows: Annotated[int, typer.Option("--windows", min=1, help="How many windows.")] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of their places.")] = 0,
    engine: opt.Engine = "auto",
    precision: opt.Precision = "fp32",
    tile_px: opt.TilePx = None,
    threads: opt.Threads = None,
    max_difference: Annotated[
        float | None,
        typer.Option(
            "--max-difference",
            min=0,
            help="Allowed difference of a probability; by default 1e-4 at fp32, or the bundle's.",
        ),
    ] = None,
    max_flipped: Annotated[
        float | None,
        typer.Option(
            "--max-flipped",
            min=0,
            help="Allowed pixels of another class, per million; by default 0.1 at fp32.",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", metavar="FILE.png", help="Draw the windows and where they differ."
        ),
    ] = None,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Prove that tiles leave no seams: random windows, computed in many ways.

    Untiled, on shifted grids and by other sizes of tile must give what the tiled run gives.
    Prints the largest difference of a probability and the pixels of another class per
    million; exit code 1 if they are more than the bundle promises. Blended results
    (--blend hann, gaussian) are listed too, and need not be equal.

    Examples
    --------
      cellseg-cli verify slide.svs
      cellseg-cli verify slide.svs --windows 50 --tile 512 --precision int8
      cellseg-cli verify slide.svs --picture seams.png
    """
    from cellseg.console import verify_text
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.verification.verify import verify as verify_slide

    show_logs(verbose)
    options = InferOptions(
        model=model,
        engine=engine,
        precision=precision,
        threads=threads,
        tile_px=tile_px,
        mpp=mpp,
        channel=channel,
        fit=fit,
    )
    with counted("windows") as progress:
        report = verify_slide(
            path,
            options,
            windows=windows,
            seed=seed,
            max_difference=max_difference,
            max_flipped_per_million=max_flipped,
            progress=progress,
            picture=picture,
        )
    if as_json:
        print_json(report.as_dict())
    else:
        typer.echo(verify_text(path, report))
    if not report.ok:
        raise CellsegError(
            "Tiled and untiled results must agree, on any grid. Received: differences above.",
            hint="The model reaches further than its bundle's halo: export it again.",
        )
