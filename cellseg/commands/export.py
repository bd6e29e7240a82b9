"""``cellseg-cli export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cellseg.commands import export_options as own
from cellseg.commands import options as opt
from cellseg.commands.common import needs_extra, print_json, reports_errors, show_logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cellseg.export.tensorrt import EngineFile

__all__ = ["export"]


@reports_errors
def export(
    run: own.Run,
    out: own.BundleOut,
    target: own.Target = None,
    precision: own.Precision = None,
    capability: own.Capability = None,
    classes: own.Classes = None,
    mpp: own.Mpp = None,
    input_scale: own.InputScale = 1 / 255,
    input_offset: own.InputOffset = 0.0,
    engine_tile: own.EngineTile = 1024,
    representative: own.Representative = None,
    select: own.Select = None,
    test: own.Test = None,
    keep: own.Keep = None,
    min_quality: own.MinQuality = 0.99,
    halo_tolerance: own.HaloTolerance = 0.0,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Export a trained model to a bundle, and measure it (needs the train and export extras).

    Writes fp32 and int8 ONNX; --target and --precision add other files. Nothing is written
    if network and file disagree, or int8 loses more than --min-quality allows. A labelled
    folder holds images/ and masks/.

    Examples
    --------
      cellseg-cli export runs/nuclei -o nuclei.cellseg --precision fp32
      cellseg-cli export runs/nuclei -o nuclei.cellseg
          --representative DATA/dsb/train/images --test dsb=DATA/dsb/test
      cellseg-cli export mine.onnx -o mine.cellseg --classes background,cell --mpp 0.5
          --target onnx,tflite --representative IMAGES
      cellseg-cli export nuclei.cellseg -o engines --compute-capability 8.6,8.9,12.0
    """
    show_logs(verbose)
    if run.suffix == ".cellseg":
        _export_engines(run, out, opt.parse_list(capability), engine_tile, as_json)
        return
    with needs_extra("export"):
        from cellseg.export.export import ExportOptions, export_run
    options = ExportOptions(
        run=run,
        output=out,
        classes=opt.parse_list(classes),
        mpp=mpp,
        input_scale=input_scale,
        input_offset=input_offset,
        targets=opt.parse_list(target) or ("onnx",),
        compute_capabilities=opt.parse_list(capability),
        engine_tile_px=engine_tile,
        precisions=opt.parse_list(precision) or ("fp32", "int8"),
        representative=tuple(representative or ()),
        select=tuple(map(opt.parse_dataset, select or ())),
        evaluate=tuple(map(opt.parse_dataset, test or ())),
        keep_channels=tuple(keep) if keep else None,
        min_quality=min_quality,
        halo_tolerance=halo_tolerance,
    )
    report = export_run(options)
    if as_json:
        print_json(report.to_json())
    else:
        typer.echo(f"{report.bundle.path}\nsha256 {report.bundle.sha256}")
        _print_engines(report.engines)


def _export_engines(
    bundle: Path, folder: Path, capabilities: tuple[str, ...], tile_px: int, as_json: bool
) -> None:
    """Build TensorRT engines of a bundle that is there already."""
    from cellseg.runtime.bundle import Bundle

    with needs_extra("export"):
        from cellseg.export.tensorrt import build_engines
    engines = build_engines(Bundle.open(bundle), capabilities, tile_px, folder)
    if as_json:
        print_json({"engines": [engine.to_json() for engine in engines]})
    else:
        _print_engines(engines)


def _print_engines(engines: Iterable[EngineFile]) -> None:
    for engine in engines:
        report = engine.report
        typer.echo(
            f"{engine.path}  {len(report.int8)} of {len(report.convolutions)} convolutions in "
            f"int8, {len(report.layers)} layers, {len(report.reformats)} reformats"
        )
