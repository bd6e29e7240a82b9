"""Options that commands of the command line share: their names, help and how their text is read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from cellseg.runtime.jobs.outputs import DEFAULT_OUTPUTS, OUTPUTS

_SPEED, _INPUT, _RESULT = "How fast", "What is read", "What is made"


def parse_bytes(text: str) -> int:
    """Return a size such as ``2G``, ``512M`` or ``1.5GiB`` in bytes.

    Examples
    --------
    >>> parse_bytes("2G"), parse_bytes("512 MiB")
    (2147483648, 536870912)
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if found is None:
        raise typer.BadParameter(f"a size looks like 2G or 512M. Received: {text!r}.")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " "))


def parse_setting(text: str) -> tuple[str, Any]:
    """Return key and value of ``key=value``; the value is JSON where it can be, else text.

    Examples
    --------
    >>> parse_setting("fit.epochs=5"), parse_setting("name=mine")
    (('fit.epochs', 5), ('name', 'mine'))
    """
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise typer.BadParameter(f"a setting looks like fit.epochs=5. Received: {text!r}.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def parse_dataset(text: str) -> tuple[str, Path]:
    """Return name and folder of ``NAME=FOLDER``; the folder's name where none is given.

    Examples
    --------
    >>> parse_dataset("test=data/dsb/test")[0], parse_dataset("data/dsb")[0]
    ('test', 'dsb')
    """
    name, equals, folder = text.partition("=")
    return (name, Path(folder)) if equals else (Path(text).name, Path(text))


def parse_list(texts: list[str] | None) -> tuple[str, ...]:
    """Return the parts of options that may be repeated and may hold commas.

    Examples
    --------
    >>> parse_list(["8.6,8.9", "12.0"]), parse_list(None)
    (('8.6', '8.9', '12.0'), ())
    """
    parts = (part.strip() for text in texts or () for part in text.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def parse_numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of ``0.8,0.1,0.1``.

    Examples
    --------
    >>> parse_numbers("0.8,0.1,0.1")
    (0.8, 0.1, 0.1)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"numbers look like 0.8,0.1,0.1. Received: {text!r}.") from None


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of ``WIDTHxHEIGHT``.

    Examples
    --------
    >>> parse_size("16384x8192")
    (16384, 8192)
    """
    found = re.fullmatch(r"([0-9]+)x([0-9]+)", text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"a size looks like 16384x16384. Received: {text!r}.")
    return int(found[1]), int(found[2])


# --- what is read ---

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Slides, images, folders or glob patterns."),
]
Input = Annotated[str, typer.Argument(metavar="INPUT", help="A slide or image.")]
Mpp = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        metavar="MICRONS",
        help="Size of a full-resolution pixel; overrides what the file says.",
        rich_help_panel=_INPUT,
    ),
]
Channel = Annotated[
    str | None,
    typer.Option(
        "--channel",
        metavar="NAME",
        help="Read one channel alone, as grey: its name, or its number from 1 on.",
        rich_help_panel=_INPUT,
    ),
]
TissueMask = Annotated[
    Path | None,
    typer.Option(
        "--tissue-mask",
        metavar="FILE",
        help="Image of the slide, nonzero where tissue is; by default it is found.",
        rich_help_panel=_INPUT,
    ),
]
NoTissueMask = Annotated[
    bool,
    typer.Option("--no-tissue-mask", help="Run tiles without tissue too.", rich_help_panel=_INPUT),
]
TissueSpeck = Annotated[
    float,
    typer.Option(
        "--tissue-speck",
        metavar="UM2",
        min=0,
        help="Drop smaller pieces of tissue, µm².",
        rich_help_panel=_INPUT,
    ),
]
TissueHole = Annotated[
    float,
    typer.Option(
        "--tissue-hole",
        metavar="UM2",
        min=0,
        help="Fill smaller holes in tissue, µm².",
        rich_help_panel=_INPUT,
    ),
]

Roi = Annotated[
    Path | None,
    typer.Option(
        "--roi",
        metavar="FILE.geojson",
        help="Only what lies in these polygons (full-resolution pixels, as QuPath exports them).",
        rich_help_panel=_INPUT,
    ),
]

OnError = Annotated[
    str,
    typer.Option(
        "--on-error",
        metavar="stop|skip",
        help="A damaged part of a slide stops its run, or is taken for background and reported.",
        rich_help_panel=_INPUT,
    ),
]

# --- what is made ---

Model = Annotated[
    str, typer.Option("--model", metavar="NAME|PATH", help="Shipped model or a .cellseg file.")
]
Out = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="FOLDER", help="Results go to FOLDER/<name of input>/."),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="0..1",
        help="Foreground from this probability on; by default what the model says.",
        rich_help_panel=_RESULT,
    ),
]
Fit = Annotated[
    str,
    typer.Option(
        "--fit",
        metavar="auto|whole|native",
        help="Models of whole images: bring the image to the model's size, or leave it at its own "
        "scale, in tiles. auto: as it was trained.",
        rich_help_panel=_RESULT,
    ),
]
Write = Annotated[
    list[str] | None,
    typer.Option(
        "--write",
        metavar="NAME,...",
        help=f"What to make, may be repeated: {', '.join(OUTPUTS)}. "
        f"By default {', '.join(DEFAULT_OUTPUTS)}.",
        rich_help_panel=_RESULT,
    ),
]
Blend = Annotated[
    str,
    typer.Option(
        "--blend",
        metavar="NAME",
        help="How tiles are joined: crop (exact), or overlapping, by hann or gaussian weights.",
        rich_help_panel=_RESULT,
    ),
]
Overlap = Annotated[
    float | None,
    typer.Option(
        "--overlap",
        metavar="0..0.8",
        help="Part of a tile that its neighbour reads too, for blending; by default 0.25.",
        rich_help_panel=_RESULT,
    ),
]
BlurPx = Annotated[
    int,
    typer.Option(
        "--blur",
        metavar="PIXELS",
        help="Side of the Gaussian of blurred-mask, odd.",
        rich_help_panel=_RESULT,
    ),
]
Simplify = Annotated[
    float,
    typer.Option(
        "--simplify",
        metavar="PIXELS",
        help="How far outlines of cells may lie from where they were traced; 0: pixel by pixel.",
        rich_help_panel=_RESULT,
    ),
]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart/--resume",
        help="Start over, or go on where an earlier run stopped.",
        rich_help_panel=_RESULT,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout, for programs.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")]

# --- how fast ---

Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="auto (the fastest here that is good enough) or one that doctor lists.",
        rich_help_panel=_SPEED,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", metavar="NAME", help="auto, fp32, bf16 or int8.", rich_help_panel=_SPEED
    ),
]
TilePx = Annotated[
    int | None,
    typer.Option(
        "--tile",
        metavar="PIXELS",
        help="Side of a tile at most, a multiple of the model's stride.",
        rich_help_panel=_SPEED,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option("--batch", help="Tiles kept ready for the engine.", rich_help_panel=_SPEED),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Threads that read and decode.", rich_help_panel=_SPEED),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="Threads of the engine.", rich_help_panel=_SPEED),
]
MaxRam = Annotated[
    int | None,
    typer.Option(
        "--max-ram",
        metavar="SIZE",
        parser=parse_bytes,
        help="Memory the run may use, such as 800M or 2G: tiles are as large as fit.",
        rich_help_panel=_SPEED,
    ),
]

# --- training and export ---

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="TOML file, a seed's .config file, or the name of a shipped recipe."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Folder that the recipe's paths start from; by default the recipe file's own.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting, e.g. fit.epochs=5."),
]
