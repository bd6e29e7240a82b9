"""The command line: its table of commands. What each does is in `cellseg.commands`.

Exit codes: 0 done, 1 our error (``error:`` and ``hint:`` on stderr), 2 wrong usage, 130 stopped.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from cellseg.commands import bench, data, data_stats, recipe
from cellseg.commands.common import in_our_words, print_error, prose
from cellseg.commands.export import export
from cellseg.commands.infer import infer
from cellseg.commands.live import live
from cellseg.commands.look import doctor, inspect
from cellseg.commands.report import report
from cellseg.commands.serve import serve
from cellseg.commands.train import evaluate, train
from cellseg.commands.verify import verify

__all__ = ["app", "main"]

app = typer.Typer(
    name="cellseg-cli",
    help="Segment cells in microscope images and gigapixel slides.",
    epilog="Start with: cellseg-cli infer slide.svs",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Make, bring in and look at image data.", no_args_is_help=True)
app.add_typer(data_app, name="data")
recipe_app = typer.Typer(help="Check, convert and describe training recipes.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")
bench_app = typer.Typer()
app.add_typer(bench_app, name="bench")


def main() -> None:
    """Run the command line; what the ``cellseg-cli`` script calls."""
    _settle_process()
    try:
        app()
    except (OSError, ImportError) as error:  # before and behind a command: its words, its help
        known = in_our_words(error)
        if known is None:
            raise
        print_error(known)
        sys.exit(1)
    finally:
        gc.freeze()  # Python looks through all that is left for garbage, and then it is gone


def _settle_process() -> None:
    """Set what a process of our own may set, and a library in somebody else's must not.

    Numbers are not crunched by BLAS here, but NumPy, SciPy and OpenCV each bring one whose threads,
    one for each core, spin for a tenth of a second when they start. Imports and the engine's
    graph make objects that stay: looking through them for garbage takes as long again. A name that
    stdout's encoding has no letters for is escaped, as on stderr: it ended a command that was done.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(10_000, 10, 10)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


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


_TABLE: tuple[tuple[typer.Typer, dict[str, Callable[..., None]]], ...] = (
    (
        app,
        {
            "infer": infer, "live": live, "serve": serve, "report": report, "verify": verify,
            "inspect": inspect, "doctor": doctor, "train": train, "evaluate": evaluate,
            "export": export,
        },
    ),
    (
        data_app,
        {
            "import": data.import_annotated, "make-slide": data.make_slide, "split": data.split,
            "tile": data.tile, "stats": data_stats.stats, "synthesize": data.synthesize,
            "preview": data.preview,
        },
    ),
    (
        recipe_app,
        {
            "convert": recipe.convert, "check": recipe.check, "schema": recipe.schema,
            "list": recipe.list_recipes,
        },
    ),
    (bench_app, {"compare": bench.compare, "report": bench.report, "merge": bench.merge}),
)  # fmt: skip
for _app, _commands in _TABLE:
    for _name, _command in _commands.items():
        _app.command(_name, help=prose(_command))(_command)
bench_app.callback(invoke_without_command=True, help=prose(bench.bench))(bench.bench)
