"""Options of ``cellseg-cli train`` and ``evaluate``; those of cell scores are in `instances`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FOLDER",
        help="The run's folder; by default runs/<name>, or a .config file's model_dir.",
    ),
]
Begin = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME|PATH",
        help="Begin with the weights of a bundle (nuclei), run folder or .keras file; the same as "
        "--set fit.init=...",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")]

ScoredRecipe = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE", help="TOML file, a seed's .config file, or a shipped recipe's name."
    ),
]
ScoredModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        help="Bundle, run folder or .keras file; by default the run of a recipe of classes, "
        "nuclei for one of cells.",
    ),
]
Split = Annotated[str, typer.Option("--split", metavar="NAME", help="train, valid or test.")]
ReportOut = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="Tables and a picture of the worst."),
]
Tiled = Annotated[
    bool, typer.Option("--tiled", help="Also tile by tile, at the images' own scale.")
]
Cam = Annotated[
    bool,
    typer.Option(
        "--cam",
        help="Also class activation maps (Seg-Grad-CAM): Keras models, on TensorFlow or torch.",
    ),
]
