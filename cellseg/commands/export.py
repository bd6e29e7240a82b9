"""``cellseg-cli export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cellseg.commands import export_options as own
from cellseg.commands import options as opt
from cellseg.commands.common import needs_extra, print_json, progress_bar, reports_errors, show_logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cellseg.export.targets.tensorrt import EngineFile
    from cellseg.runtime.bundles.bundle import Bundle

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
    input_scale: own.InputScale = None,
    input_offset: own.InputOffset = "0",
    channel_order: own.ChannelOrder = "rgb",
    engine_tile: own.EngineTile = 1024,
    representative: own.Representative = None,
    select: own.Select = None,
    test: own.Test = None,
    keep: own.Keep = None,
    min_quality: own.MinQuality = None,
    halo_tolerance: own.HaloTolerance = 0.0,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Export a trained model to a bundle, and measure it (needs the export extra).

    Writes fp32 and int8 ONNX; --target and --precision add other files. Nothing is written
    if network and file disagree, or int8 loses more than --min-quality allows. A labelled
    folder holds images/ and masks/. Without one, int8 is held against fp32's own result on
    tiles of --representative that gave no ranges: agreement with fp32, not quality. Keras
    models need the train extra, too.

    Examples
    --------
      cellseg-cli export runs/nuclei -o nuclei.cellseg --precision fp32
      cellseg-cli export runs/nuclei -o nuclei.cellseg
          --representative DATA/dsb/train/images --test dsb=DATA/dsb/test
      cellseg-cli export mine.onnx -o mine.cellseg --classes background,cell --mpp 0.5
          --target onnx,tflite --representative IMAGES --min-quality 0.98
      cellseg-cli export nuclei.cellseg -o engines --compute-capability 8.6,8.9,12.0
    """
    show_logs(verbose)
    if run.suffix == ".cellseg":
        _export_engines(run, out, opt.parse_list(capability), engine_tile, as_json)
        return
    from cellseg.export.options import ExportOptions, check_options

    options = ExportOptions(
        run=run,
        output=out,
        classes=opt.parse_list(classes),
        mpp=mpp,
        input_scale=opt.parse_numbers(input_scale) if input_scale else None,
        input_offset=opt.parse_numbers(input_offset),
        channel_order=channel_order.lower(),
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
    check_options(options)  # before Keras is loaded, which takes a while
    with needs_extra("export"), progress_bar() as progress:
        from cellseg.export.export import export_run

        report = export_run(options, progress)
    if as_json:
        print_json(report.to_json())
    else:
        typer.echo(f"{report.bundle.path}\nsha256 {report.bundle.sha256}")
        _print_agreement(report.bundle)
        _print_engines(report.engines)


def _export_engines(
    bundle: Path, folder: Path, capabilities: tuple[str, ...], tile_px: int, as_json: bool
) -> None:
    """Build TensorRT engines of a bundle that is there already."""
    from cellseg.runtime.bundles.bundle import Bundle

    with needs_extra("export"):
        from cellseg.export.targets.tensorrt import build_engines
    engines = build_engines(Bundle.open(bundle), capabilities, tile_px, folder)
    if as_json:
        print_json({"engines": [engine.to_json() for engine in engines]})
    else:
        _print_engines(engines)


def _print_agreement(bundle: Bundle) -> None:
    """Print what stands in for quality where nobody labelled an image."""
    for variant in bundle.variants:
        for found in variant.agreement:
            typer.echo(f"{variant.file}  {found.words}")


def _print_engines(engines: Iterable[EngineFile]) -> None:
    for engine in engines:
        report = engine.report
        typer.echo(
            f"{engine.path}  {len(report.int8)} of {len(report.convolutions)} convolutions in "
            f"int8, {len(report.layers)} layers, {len(report.reformats)} reformats"
        )
