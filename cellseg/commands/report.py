"""``cellseg-cli report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import print_json, reports_errors, show_logs

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
    the folder that holds them.

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
    folders = find_runs(results)
    if len(folders) == 1:
        pages = [write_report(folders[0], out)]
    else:
        pages = [write_report(folder) for folder in folders]
        pages.append(write_index(folders, out or _common(folders) / REPORT_HTML))
    if as_json:
        print_json({"pages": [str(page) for page in pages]})
    else:
        typer.echo("\n".join(map(str, pages)))


def _common(folders: list[Path]) -> Path:
    """Folder that holds all of them."""
    import os

    return Path(os.path.commonpath([folder.resolve() for folder in folders]))
