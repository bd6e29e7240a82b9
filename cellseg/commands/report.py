"""``cellseg-cli report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import print_error, print_json, reports_errors, show_logs
from cellseg.errors import CellsegError

__all__ = ["report"]


@reports_errors
def report(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULT", help="What infer wrote: OUT/<name>, several, or OUT."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.html",
            help="The page; of several results, the page that compares them.",
        ),
    ] = None,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Make a page of a result: slide, counts, densities, pictures, speed and provenance.

    The page is one file that can be mailed: nothing in it is loaded from
    elsewhere. It lies in the result's folder as report.html. Of several
    results each gets its own, and one more compares them: report.html in
    the folder that holds them. A result that cannot be shown does not stop
    the others; the exit code is 1 then.

    Examples
    --------
      cellseg-cli report cellseg-out/slide
      cellseg-cli report cellseg-out
      cellseg-cli report cellseg-out/slide -o slide.html
    """
    from cellseg.runtime.report.folder import find_runs
    from cellseg.runtime.report.index import write_index
    from cellseg.runtime.report.page import REPORT_HTML, write_report

    show_logs(verbose)
    if out is not None and out.suffix.lower() not in (".html", ".htm"):  # it may be the slide
        raise typer.BadParameter(f"--out takes a FILE.html. Received: {str(out)!r}")
    folders = find_runs(results)
    if len(folders) == 1:
        _print([write_report(folders[0], out)], as_json)
        return
    pages = {folder: page for folder in folders if (page := _page(folder)) is not None}
    if pages:
        index = write_index(list(pages), out or _common(list(pages)) / REPORT_HTML)
        _print([*pages.values(), index], as_json)
    if len(pages) < len(folders):
        typer.echo(f"{len(pages)} of {len(folders)} results have a page", err=True)
        raise typer.Exit(1)


def _page(folder: Path) -> Path | None:
    """Write the page of one result of several; None, and why, if it cannot be made."""
    from cellseg.runtime.report.page import write_report

    try:
        return write_report(folder)
    except CellsegError as error:
        print_error(error)
        return None


def _print(pages: list[Path], as_json: bool) -> None:
    if as_json:
        print_json({"pages": [str(page) for page in pages]})
    else:
        typer.echo("\n".join(map(str, pages)))


def _common(folders: list[Path]) -> Path:
    """Folder that holds all of them; relative as they are."""
    import os

    common = os.path.commonpath([folder.resolve() for folder in folders])
    is_plain = any(folder.is_absolute() for folder in folders)
    return Path(common if is_plain else os.path.relpath(common))
