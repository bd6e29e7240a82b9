"""``cellseg-cli infer``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cellseg.commands import options as opt
from cellseg.commands import pixels as pix
from cellseg.commands.common import (
    print_error,
    print_json,
    reports_errors,
)

if TYPE_CHECKING:
    from cellseg.runtime.batch import Outcome
    from cellseg.runtime.jobs.options import InferOptions


__all__ = ["infer"]

DEFAULT_OUT = Path("cellseg-out")


@reports_errors
def infer(
    inputs: opt.Inputs,
    out: opt.Out = DEFAULT_OUT,
    model: opt.Model = "nuclei",
    mpp: opt.Mpp = None,
    channel: opt.Channel = None,
    roi: opt.Roi = None,
    tissue_mask: opt.TissueMask = None,
    no_tissue_mask: opt.NoTissueMask = False,
    tissue_speck: opt.TissueSpeck = 0.0,
    tissue_hole: opt.TissueHole = 20_000.0,
    on_error: opt.OnError = "stop",
    threshold: opt.Threshold = None,
    fit: opt.Fit = "auto",
    blend: opt.Blend = "crop",
    overlap: opt.Overlap = None,
    write: opt.Write = None,
    blur_px: opt.BlurPx = 5,
    simplify_px: opt.Simplify = 0.5,
    restart: opt.Restart = False,
    engine: opt.Engine = "auto",
    precision: opt.Precision = "auto",
    tile_px: opt.TilePx = None,
    batch: opt.Batch = None,
    workers: opt.Workers = None,
    threads: opt.Threads = None,
    max_ram: opt.MaxRam = None,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Segment slides and images: class map, cells, overlay picture and report.

    Nothing needs to be configured. A run that was stopped goes on where it stopped
    when the same command is given again. Neither --batch nor --workers changes a result.

    Examples
    --------
      cellseg-cli infer slide.svs
      cellseg-cli infer scans/ 'more/*.tif' -o results
      cellseg-cli infer field.png --mpp 0.25 --precision fp32
      cellseg-cli infer stains.ome.tif --channel DAPI
      cellseg-cli infer train_eval_infer.config      the folders that a recipe names
    """
    if len(inputs) == 1 and pix.is_recipe_file(inputs[0]):
        chosen = None if model == "nuclei" else model
        folder = None if out == DEFAULT_OUT else out
        pix.infer_recipe(inputs[0], chosen, folder, engine, precision, as_json, verbose)
        return
    from cellseg.runtime.inputs import expand_inputs
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.jobs.outputs import DEFAULT_OUTPUTS
    from cellseg.runtime.tissue.mask import TissueLimits

    options = InferOptions(
        model=model,
        engine=engine,
        precision=precision,
        threads=threads,
        tile_px=tile_px,
        batch=batch,
        workers=workers,
        max_ram_bytes=max_ram,
        mpp=mpp,
        channel=channel,
        on_error=on_error,
        threshold=threshold,
        fit=fit,
        blend=blend,
        overlap=overlap,
        tissue_mask=tissue_mask or not no_tissue_mask,
        tissue_limits=TissueLimits(tissue_speck, tissue_hole),
        roi=roi,
        restart=restart,
        write=opt.parse_list(write) or DEFAULT_OUTPUTS,
        blur_px=blur_px,
        simplify_px=simplify_px,
    )
    outcomes = _infer_all(expand_inputs(inputs), out, options, as_json, verbose)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)


def _infer_all(
    slides: list[Path], out: Path, options: InferOptions, as_json: bool, verbose: bool
) -> list[Outcome]:
    """Run all slides; print each result, or all of them as JSON."""
    from cellseg.console import RunDisplay, failure_summary, report_text, show_logs, stderr
    from cellseg.runtime.batch import infer_batch

    console = stderr()
    show_logs(console, verbose)
    outcomes = []
    try:
        for outcome in infer_batch(slides, out, options, lambda s: RunDisplay(console, s.name)):
            outcomes.append(outcome)
            if outcome.error is not None:
                print_error(outcome.error)
            elif outcome.result is not None and not as_json:
                typer.echo(report_text(outcome.result.folder, outcome.result.report))
    except KeyboardInterrupt:
        typer.echo("interrupted; finished tiles are kept", err=True)
        typer.echo("\nhint: the same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json({"runs": [outcome.as_dict() for outcome in outcomes]})
    if len(outcomes) > 1:
        typer.echo(failure_summary(outcomes), err=True)
    return outcomes
