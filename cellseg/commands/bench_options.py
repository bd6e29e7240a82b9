"""Options of ``cellseg-cli bench``, in three panels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellseg.commands import options as opt

_WHAT, _LONG, _JUDGED = "What is measured", "For how long", "How it is judged"
_FILE = "A report: bench.json, or the folder that holds it."


def _names(name: str, words: str) -> Any:
    return typer.Option(name, metavar="NAME,...", help=words, rich_help_panel=_WHAT)


ReportFile = Annotated[Path, typer.Argument(metavar="A", help=_FILE)]
OtherFile = Annotated[Path, typer.Argument(metavar="B", help=_FILE)]
ReportFiles = Annotated[list[Path], typer.Argument(metavar="FILE...", help=_FILE)]

Models = Annotated[
    list[str] | None, _names("--model", "Shipped models or .cellseg files, may be repeated.")
]
Engines = Annotated[list[str] | None, _names("--engine", "Engines; by default all that work here.")]
Precisions = Annotated[
    list[str] | None, _names("--precision", "By default all that an engine runs.")
]
Tiles = Annotated[
    list[str] | None, _names("--tile", "Sides of tiles, pixels; by default the model's.")
]
Batches = Annotated[
    list[str] | None, _names("--batch", "Tiles of a query (kept in flight, kept ready).")
]
Threads = Annotated[
    list[str] | None, _names("--threads", "Threads of the engine; by default every core.")
]
Scenarios = Annotated[
    list[str] | None,
    _names("--scenario", "tile-single, tile-offline, slide, stream, cold; by default all."),
]
Slide = Annotated[
    Path | None,
    typer.Option(
        "--slide",
        metavar="FILE",
        rich_help_panel=_WHAT,
        help="Slide to run, and to take tiles from; by default a small one is made.",
    ),
]
Fps = Annotated[
    float,
    typer.Option("--fps", help="Frames a second, scenario stream.", rich_help_panel=_WHAT),
]
Frame = Annotated[
    Any,
    typer.Option(
        "--frame",
        metavar="WxH",
        parser=opt.parse_size,
        rich_help_panel=_WHAT,
        help="Size of a frame, scenario stream.",
    ),
]
AccuracySets = Annotated[
    list[str] | None,
    typer.Option(
        "--accuracy-set",
        metavar="NAME=FOLDER",
        rich_help_panel=_JUDGED,
        help="Labelled images (images/, masks/ or labels/) to score every variant on, may be "
        "repeated; by default what the bundle states is shown.",
    ),
]
MinDuration = Annotated[
    float,
    typer.Option(
        "--min-duration",
        metavar="SECONDS",
        help="Of a contestant, all rounds together.",
        rich_help_panel=_LONG,
    ),
]
MinSamples = Annotated[
    int,
    typer.Option(
        "--min-samples",
        help="Of a contestant: 29 for p90, 299 for p99.",
        rich_help_panel=_LONG,
    ),
]
Rounds = Annotated[
    int,
    typer.Option("--rounds", help="Turns that contestants take.", rich_help_panel=_LONG),
]
NoRoofline = Annotated[
    bool,
    typer.Option(
        "--no-roofline",
        rich_help_panel=_JUDGED,
        help="Do not measure how fast this machine multiplies matrices.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        rich_help_panel=_LONG,
        help="A round that takes longer counts as failed.",
    ),
]
BenchOut = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="OUT", help="Folder, or a .json file in one."),
]
