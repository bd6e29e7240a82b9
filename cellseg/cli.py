"""The command line: parses, calls, prints; no logic.

Results go to stdout or to files, progress and logs to stderr. Exit codes: 0 done, 1 our error
(``error:`` and ``hint:`` on stderr), 2 wrong usage, 130 interrupted.

Everything but typer is imported by the command that needs it, so that ``--help`` is quick.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from cellseg import cli_options as opt
from cellseg.errors import CellsegError

if TYPE_CHECKING:
    from cellseg.runtime.batch import Outcome

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="cellseg-cli",
    help="Segment cells in microscope images and gigapixel slides.",
    epilog="Start with: cellseg-cli infer slide.svs",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Make image data.", no_args_is_help=True)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line; what the ``cellseg-cli`` script calls."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from cellseg import __version__

        typer.echo(f"cellseg {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None:
    """Segment cells in microscope images and gigapixel slides."""


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn our errors into ``error:`` and ``hint:`` with exit code 1, and Ctrl-C into 130."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except CellsegError as error:
            _print_error(error)
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None

    return wrapped


# --- running ---


@app.command()
@reports_errors
def infer(
    inputs: opt.Inputs,
    out: opt.Out = Path("cellseg-out"),
    model: opt.Model = "nuclei",
    mpp: opt.Mpp = None,
    roi: opt.Roi = None,
    tissue_mask: opt.TissueMask = None,
    no_tissue_mask: opt.NoTissueMask = False,
    tissue_speck: opt.TissueSpeck = 0.0,
    tissue_hole: opt.TissueHole = 20_000.0,
    on_error: opt.OnError = "stop",
    threshold: opt.Threshold = None,
    blend: opt.Blend = "crop",
    overlap: opt.Overlap = None,
    write: opt.Write = None,
    blur_px: opt.BlurPx = 5,
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
    """Segment slides and images: class map, overlay picture and report.

    Nothing needs to be configured. A run that was stopped goes on where it stopped
    when the same command is given again. Neither --batch nor --workers changes a result.

    Examples:
      cellseg-cli infer slide.svs
      cellseg-cli infer scans/ 'more/*.tif' -o results
      cellseg-cli infer field.png --mpp 0.25 --precision fp32
    """
    from cellseg.runtime.inputs import expand_inputs
    from cellseg.runtime.options import InferOptions
    from cellseg.runtime.tissue import TissueLimits
    from cellseg.runtime.writers.table import DEFAULT_OUTPUTS

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
        on_error=on_error,
        threshold=threshold,
        blend=blend,
        overlap=overlap,
        tissue_mask=tissue_mask or not no_tissue_mask,
        tissue_limits=TissueLimits(tissue_speck, tissue_hole),
        roi=roi,
        restart=restart,
        write=opt.parse_names(write) or DEFAULT_OUTPUTS,
        blur_px=blur_px,
    )
    outcomes = _infer_all(expand_inputs(inputs), out, options, as_json, verbose)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)


def _infer_all(
    slides: list[Path], out: Path, options: Any, as_json: bool, verbose: bool
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
                _print_error(outcome.error)
            elif outcome.result is not None and not as_json:
                typer.echo(report_text(outcome.result.folder, outcome.result.report))
    except KeyboardInterrupt:
        typer.echo("interrupted; finished tiles are kept", err=True)
        typer.echo("\nhint: the same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        _print_json({"runs": [outcome.as_dict() for outcome in outcomes]})
    if len(outcomes) > 1:
        typer.echo(failure_summary(outcomes), err=True)
    return outcomes


@app.command()
@reports_errors
def verify(
    path: opt.Input,
    model: opt.Model = "nuclei",
    mpp: opt.Mpp = None,
    windows: Annotated[int, typer.Option("--windows", min=1, help="How many windows.")] = 8,
    seed: Annotated[int, typer.Option("--seed", help="Of their places.")] = 0,
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

    Examples:
      cellseg-cli verify slide.svs
      cellseg-cli verify slide.svs --windows 50 --tile 512 --precision int8
      cellseg-cli verify slide.svs --picture seams.png
    """
    from cellseg.console import verify_text
    from cellseg.runtime.options import InferOptions
    from cellseg.runtime.verify import verify as verify_slide

    _show_logs(verbose)
    options = InferOptions(
        model=model, engine=engine, precision=precision, threads=threads, tile_px=tile_px, mpp=mpp
    )
    report = verify_slide(
        path,
        options,
        windows=windows,
        seed=seed,
        max_difference=max_difference,
        max_flipped_per_million=max_flipped,
        picture=picture,
    )
    if as_json:
        _print_json(report.as_dict())
    else:
        typer.echo(verify_text(path, report))
    if not report.ok:
        raise CellsegError(
            "Tiled and untiled results must agree, on any grid. Received: differences above.",
            hint="The model reaches further than its bundle's halo: export it again.",
        )


# --- looking ---


@app.command()
@reports_errors
def inspect(
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="Slide, image, bundle, recipe, or a shipped model."),
    ],
    mpp: opt.Mpp = None,
    as_json: opt.AsJson = False,
) -> None:
    """Describe a slide, a bundle or a training recipe.

    Examples:
      cellseg-cli inspect slide.svs        levels, pixel size, compression
      cellseg-cli inspect nuclei           classes, halo, quality of each variant
      cellseg-cli inspect my-recipe.toml   every setting of a training run
    """
    from cellseg.runtime import inspect as inspection

    if path.endswith(".toml"):
        _inspect_recipe(path, as_json)
        return
    is_bundle = inspection.is_bundle_name(path)
    found = inspection.describe_bundle(path) if is_bundle else inspection.describe_slide(path, mpp)
    if as_json:
        _print_json(found)
    else:
        typer.echo(inspection.format_description(found))


def _inspect_recipe(path: str, as_json: bool) -> None:
    with _needs_extra("train"):
        from cellseg.train.recipe import describe_recipe, load_recipe
    recipe = load_recipe(path)
    if as_json:
        _print_json({"kind": "recipe", "path": path, "recipe": recipe.model_dump(mode="json")})
    else:
        typer.echo(describe_recipe(recipe))


@app.command()
@reports_errors
def doctor(as_json: opt.AsJson = False) -> None:
    """Say what this machine can run, and how to mend what it cannot.

    Exit code 1 if no inference engine works.
    """
    from cellseg.runtime.doctor import examine, format_examination

    seen = examine()
    if as_json:
        _print_json(seen.as_dict())
    else:
        typer.echo(format_examination(seen))
    if not seen.can_infer:
        raise typer.Exit(1)


# --- training and export ---


@app.command()
@reports_errors
def train(
    recipe: opt.RecipeName,
    data: opt.Data,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="The run's folder; by default runs/<name>."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    settings: opt.Settings = None,
    verbose: opt.Verbose = False,
) -> None:
    """Train a model from images and labels (needs the train extra).

    The run's folder gets metrics.csv and its picture, a contact sheet of validation
    images, and the checkpoints that --resume and export use.

    Examples:
      cellseg-cli train nuclei --data DATA -o runs/nuclei
      cellseg-cli train nuclei --data DATA -o runs/nuclei --resume
      cellseg-cli train my-recipe.toml --data . --set fit.epochs=5
    """
    resolved = _load_recipe(recipe, settings, verbose)
    with _needs_extra("train"):
        from cellseg.train.fit import train as train_model
    typer.echo(train_model(resolved, data, out or Path("runs") / resolved.name, resume))


@app.command()
@reports_errors
def evaluate(
    recipe: opt.RecipeName,
    data: opt.Data,
    model: opt.Model = "nuclei",
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="train, valid or test.")
    ] = "test",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Tables and a picture of the worst."),
    ] = None,
    engine: opt.Engine = "auto",
    precision: opt.Precision = "auto",
    verbose: opt.Verbose = False,
) -> None:
    """Score a bundle on labelled images (needs the train extra).

    Prints a table: Dice, F1 of objects at IoU 0.5 and count error, source by source.

    Examples:
      cellseg-cli evaluate nuclei --data DATA
      cellseg-cli evaluate nuclei --data DATA --model my.cellseg -o report
    """
    resolved = _load_recipe(recipe, None, verbose)
    with _needs_extra("train"):
        from cellseg.train.evaluate import evaluate_bundle, format_table
    typer.echo(format_table(evaluate_bundle(resolved, data, split, model, out, engine, precision)))


@app.command()
@reports_errors
def export(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run's folder, a .keras or .onnx file; or a bundle, to build its engines.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE.cellseg", help="Bundle to write; a folder for engines."
        ),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="NAMES", help="Among onnx, tflite, tensorrt."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", metavar="NAME", help="Among fp32, fp16, int8."),
    ] = None,
    capability: Annotated[
        list[str] | None,
        typer.Option(
            "--compute-capability",
            metavar="8.6,8.9",
            help="GPUs to build TensorRT engines for, beside the bundle.",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--classes", metavar="NAMES", help="Of a lone .keras or .onnx file, background first."
        ),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="Microns per pixel of such a file.")
    ] = None,
    input_scale: Annotated[
        float, typer.Option("--input-scale", help="What an .onnx file's float input multiplies by.")
    ] = 1 / 255,
    input_offset: Annotated[
        float, typer.Option("--input-offset", help="What is added then.")
    ] = 0.0,
    engine_tile: Annotated[
        int, typer.Option("--engine-tile", metavar="PX", help="Tile those engines take.")
    ] = 1024,
    representative: Annotated[
        list[Path] | None,
        typer.Option(
            "--representative", metavar="FOLDER", help="Training images, for int8 ranges."
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", metavar="NAME=FOLDER", help="Labelled images to choose int8 by."),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option("--test", metavar="NAME=FOLDER", help="Labelled images to report quality on."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="CHANNEL", help="Output channels to keep; all by default."),
    ] = None,
    min_quality: Annotated[
        float, typer.Option("--min-quality", help="Share of fp32's quality int8 must keep.")
    ] = 0.99,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Export a trained model to a bundle, and measure it (needs the train and export extras).

    Writes fp32 and int8 ONNX; --target and --precision add other files. Nothing is written
    if network and file disagree, or int8 loses more than --min-quality allows. A labelled
    folder holds images/ and masks/.

    Examples:
      cellseg-cli export runs/nuclei -o nuclei.cellseg --precision fp32
      cellseg-cli export runs/nuclei -o nuclei.cellseg
          --representative DATA/dsb/train/images --test dsb=DATA/dsb/test
      cellseg-cli export mine.onnx -o mine.cellseg --classes background,cell --mpp 0.5
          --target onnx,tflite --representative IMAGES
      cellseg-cli export nuclei.cellseg -o engines --compute-capability 8.6,8.9,12.0
    """
    _show_logs(verbose)
    if run.suffix == ".cellseg":
        _export_engines(run, out, opt.parse_list(capability), engine_tile, as_json)
        return
    with _needs_extra("export"):
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
    )
    report = export_run(options)
    if as_json:
        _print_json(report.to_json())
    else:
        typer.echo(f"{report.bundle.path}\nsha256 {report.bundle.sha256}")
        _print_engines(report.engines)


def _export_engines(
    bundle: Path, folder: Path, capabilities: tuple[str, ...], tile_px: int, as_json: bool
) -> None:
    """Build TensorRT engines of a bundle that is there already."""
    from cellseg.runtime.bundle import Bundle

    with _needs_extra("export"):
        from cellseg.export.tensorrt import build_engines
    engines = build_engines(Bundle.open(bundle), capabilities, tile_px, folder)
    if as_json:
        _print_json({"engines": [engine.to_json() for engine in engines]})
    else:
        _print_engines(engines)


def _print_engines(engines: Any) -> None:
    for engine in engines:
        report = engine.report
        typer.echo(
            f"{engine.path}  {len(report.int8)} of {len(report.convolutions)} convolutions in "
            f"int8, {len(report.layers)} layers, {len(report.reformats)} reformats"
        )


@data_app.command("make-slide")
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


# --- printing ---


def _print_error(error: CellsegError) -> None:
    typer.echo(f"error: {error}", err=True)
    if error.hint:
        typer.echo(f"\nhint: {error.hint}", err=True)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def _show_logs(verbose: bool) -> None:
    from cellseg.console import show_logs, stderr

    show_logs(stderr(), verbose)


def _load_recipe(name: str, settings: list[str] | None, verbose: bool) -> Any:
    _show_logs(verbose)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets at length
    with _needs_extra("train"):
        from cellseg.train.recipe import load_recipe
    return load_recipe(name, dict(map(opt.parse_setting, settings or ())))


@contextmanager
def _needs_extra(extra: str) -> Iterator[None]:
    """Turn a missing library into the line that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CellsegError(
            f"This command needs the {extra} extra. Received: no module {error.name!r}.",
            hint=f"pip install 'cellseg[{extra}]'",
        ) from error
