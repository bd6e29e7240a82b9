"""``cellseg-cli bench ...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellseg.commands import bench_options as own
from cellseg.commands import options as opt
from cellseg.commands.common import print_json, reports_errors
from cellseg.errors import BenchError
from cellseg.runtime.writers.atomic import can_be_made

if TYPE_CHECKING:
    from cellseg.bench.options import BenchOptions
    from cellseg.bench.record import Report

__all__ = ["bench", "compare", "merge", "report"]


def _integers(texts: list[str] | None, name: str) -> tuple[int, ...]:
    parts = opt.parse_list(texts)
    try:
        return tuple(int(text) for text in parts)
    except ValueError:
        raise typer.BadParameter(
            f"{name} takes whole numbers, parted by commas. Received: {', '.join(parts)}."
        ) from None


@reports_errors
def bench(
    context: typer.Context,
    models: own.Models = None,
    engines: own.Engines = None,
    precisions: own.Precisions = None,
    tiles: own.Tiles = None,
    batches: own.Batches = None,
    threads: own.Threads = None,
    scenarios: own.Scenarios = None,
    slide: own.Slide = None,
    mpp: opt.Mpp = None,
    fps: own.Fps = 5.0,
    frame: own.Frame = "1024x1024",
    accuracy_sets: own.AccuracySets = None,
    min_duration: own.MinDuration = 10.0,
    min_samples: own.MinSamples = 29,
    rounds: own.Rounds = 5,
    no_roofline: own.NoRoofline = False,
    timeout: own.Timeout = 3600.0,
    out: own.BenchOut = Path("cellseg-bench"),
    as_json: opt.AsJson = False,
) -> None:
    """Measure speed, memory, energy and accuracy: models x engines x tiles.

    Contestants take turns, each round is a process of its own, and every
    number comes with its 95 % interval. Writes bench.json (raw samples inside),
    bench.md and bench.html. A run that a hot, sleeping or busy machine
    disturbed is marked invalid.

    Examples
    --------
      cellseg-cli bench
      cellseg-cli bench --engine openvino --precision fp32,int8 --tile 512,1024
      cellseg-cli bench --scenario tile-single --rounds 3 --min-duration 3
      cellseg-cli bench --slide slide.svs --accuracy-set test=DATA/test -o today
      cellseg-cli bench compare before after --fail-if 'p99>+5%'
    """  # fmt: skip
    if context.invoked_subcommand is not None:
        return
    from cellseg.bench.options import SCENARIO_NAMES, BenchOptions

    options = BenchOptions(
        models=opt.parse_list(models) or ("nuclei",),
        engines=_all_or(opt.parse_list(engines)),
        precisions=_all_or(opt.parse_list(precisions)),
        tiles_px=_integers(tiles, "--tile"),
        batches=_integers(batches, "--batch") or (1,),
        threads=_integers(threads, "--threads"),
        scenarios=opt.parse_list(scenarios) or SCENARIO_NAMES,
        slide=slide,
        mpp=mpp,
        fps=fps,
        frame_wh=frame,
        accuracy_sets=dict(opt.parse_dataset(text) for text in accuracy_sets or ()),
        min_duration_s=min_duration,
        min_samples=min_samples,
        rounds=rounds,
        roofline=not no_roofline,
        timeout_s=timeout,
    )
    _measure(options, out, as_json)


@reports_errors
def report(
    files: own.ReportFiles,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="By default beside each file."),
    ] = None,
    fill: Annotated[
        list[Path] | None,
        typer.Option(
            "--fill",
            metavar="PAGE.md",
            help="Put the table between the page's <!-- bench:begin --> and <!-- bench:end -->.",
        ),
    ] = None,
) -> None:
    """Write the Markdown and HTML of reports again; fill tables in other pages.

    Examples
    --------
      cellseg-cli bench report today/bench.json
      cellseg-cli bench report today laptop jetson --fill README.md
    """  # fmt: skip
    from cellseg.bench.record import load_report
    from cellseg.bench.reports.markdown import merged_table, rows_by_scenario

    places = [_place_of_pages(path, out) for path in files]
    if len(set(places)) < len(places):
        raise BenchError(
            f"Pages of several reports need a name each. Received: {len(places)} reports for "
            f"{len(set(places))} of them.",
            hint="Leave -o out: each is written beside its file. Or name files: a.json b.json.",
        )
    found = [load_report(path) for path in files]
    for (folder, stem), each in zip(places, found, strict=True):
        for written in _write_pages(each, folder, stem):
            typer.echo(written)
    table = rows_by_scenario(found[0]) if len(found) == 1 else merged_table(found)
    for page in fill or ():
        _fill(page, table)


@reports_errors
def compare(
    before: own.ReportFile,
    after: own.OtherFile,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="CONDITION",
            help="Such as 'p99>+5%' or 'slide:throughput<-3%,dice<-0.005'; metrics: p50, p90, p99, "
            "throughput, rss, energy, misses, dice, f1. A change within the noise does not fail, "
            "unless a ! stands behind the condition.",
        ),
    ] = None,
    other_machine: Annotated[
        bool,
        typer.Option("--other-machine", help="Judge by --fail-if across machines, too."),
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Hold two reports against each other; exit code 1 if a condition is met.

    Examples
    --------
      cellseg-cli bench compare before.json after.json
      cellseg-cli bench compare main today --fail-if 'p99>+5%' --fail-if 'dice<-0.002'
    """  # fmt: skip
    from cellseg.bench.record import load_report
    from cellseg.bench.reports.compare import compare_reports
    from cellseg.bench.reports.condition import parse_conditions
    from cellseg.bench.reports.markdown import comparison_text

    conditions = parse_conditions(fail_if or ())
    found = compare_reports(load_report(before), load_report(after))
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    regressions = found.regressions(conditions)
    if as_json:
        print_json(found.as_dict(regressions))
    else:
        typer.echo(comparison_text(found, conditions))
    if not conditions:
        return
    found.check_machine(other_machine)
    found.check_covered(conditions)
    if regressions or found.failed:
        what = [f"{change.key} {condition.text}" for change, condition in regressions]
        raise BenchError(
            f"No condition may be met. Received: {len(what) + len(found.failed)} "
            f"regressions ({'; '.join([*what, *found.failed][:3])})."
        )
    if not as_json:
        typer.echo("\nno regression")


@reports_errors
def merge(
    files: own.ReportFiles,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.md", help="By default stdout.")
    ] = None,
) -> None:
    """Put reports of many machines into one table.

    Example:
      cellseg-cli bench merge laptop.json jetson.json server.json -o machines.md
    """
    from cellseg.bench.record import load_report
    from cellseg.bench.reports.markdown import merged_table

    table = merged_table([load_report(path) for path in files])
    if out is None:
        typer.echo(table)
    else:
        out.write_text(f"{table}\n", encoding="utf-8")
        typer.echo(out)


def _measure(options: BenchOptions, out: Path, as_json: bool) -> None:
    """Let the contestants take turns, and report on them however far they came."""
    from cellseg.bench.rounds.runner import run_bench
    from cellseg.console import BenchDisplay, stderr

    _check_folder(out)  # before the hours, not after them
    with BenchDisplay(stderr()) as display:
        found = run_bench(options, display)
    written = _write(found, out)
    _print(found, written, as_json)
    if found.status == "interrupted":
        typer.echo("interrupted; finished rounds are in the report", err=True)
        raise typer.Exit(130)
    if all(row.status != "done" for row in found.rows):
        raise BenchError("At least one contestant must finish. Received: none; see the report.")


def _all_or(names: tuple[str, ...]) -> tuple[str, ...]:
    return () if names == ("all",) else names


def _check_folder(out: Path) -> None:
    """Refuse a place that no report can be written to."""
    folder = _folder_of(out)
    if not can_be_made(folder):
        raise BenchError(
            f"Reports are written to a folder that can be written. Received: {folder}.",
            hint="Choose another place with -o.",
        )


def _folder_of(out: Path) -> Path:
    return out.parent if out.suffix == ".json" else out


def _place_of_pages(path: Path, out: Path | None) -> tuple[Path, str]:
    """Folder and name, without suffix, of the pages of a report."""
    folder = path if path.is_dir() else path.parent
    return out or folder, "bench" if path.is_dir() else path.stem


def _write(found: Report, out: Path) -> list[Path]:
    """Write all three forms; the JSON first, since it holds everything."""
    folder, stem = _folder_of(out), out.stem if out.suffix == ".json" else "bench"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.json"
    path.write_text(found.to_json(), encoding="utf-8")
    return [path, *_write_pages(found, folder, stem)]


def _write_pages(found: Report, folder: Path, stem: str) -> list[Path]:
    from cellseg.bench.reports.markdown import report_markdown
    from cellseg.bench.reports.page import report_page

    folder.mkdir(parents=True, exist_ok=True)
    pages = {".md": report_markdown, ".html": report_page}
    for suffix, make in pages.items():
        (folder / f"{stem}{suffix}").write_text(make(found), encoding="utf-8")
    return [folder / f"{stem}{suffix}" for suffix in pages]


def _print(found: Report, written: list[Path], as_json: bool) -> None:
    from cellseg.bench.reports.markdown import report_markdown

    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        typer.echo(report_markdown(found))
    for path in written:
        typer.echo(f"wrote {path}", err=True)


def _fill(page: Path, table: str) -> None:
    from cellseg.bench.reports.markdown import fill_section

    if not page.is_file() or not fill_section(page, "bench", table):
        raise BenchError(
            f"A page to fill must have the marks. Received: none in {page}.",
            hint="Put <!-- bench:begin --> and <!-- bench:end --> where the table belongs.",
        )
    typer.echo(page)
