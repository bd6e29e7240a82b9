"""Options of ``cellseg-cli export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run's folder, a .keras or .onnx file; or a bundle, to build its engines.",
    ),
]
BundleOut = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="FILE.cellseg", help="Bundle to write; a folder for engines."
    ),
]
Target = Annotated[
    list[str] | None,
    typer.Option("--target", metavar="NAMES", help="Among onnx, tflite, tensorrt."),
]
Precision = Annotated[
    list[str] | None,
    typer.Option("--precision", metavar="NAME", help="Among fp32, fp16, int8."),
]
Capability = Annotated[
    list[str] | None,
    typer.Option(
        "--compute-capability",
        metavar="8.6,8.9",
        help="GPUs to build TensorRT engines for, beside the bundle.",
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--classes", metavar="NAMES", help="Of a lone .keras or .onnx file, background first."
    ),
]
Mpp = Annotated[float | None, typer.Option("--mpp", help="Microns per pixel of such a file.")]
InputScale = Annotated[
    float, typer.Option("--input-scale", help="What an .onnx file's float input multiplies by.")
]
InputOffset = Annotated[float, typer.Option("--input-offset", help="What is added then.")]
EngineTile = Annotated[
    int, typer.Option("--engine-tile", metavar="PX", help="Tile those engines take.")
]
Representative = Annotated[
    list[Path] | None,
    typer.Option("--representative", metavar="FOLDER", help="Training images, for int8 ranges."),
]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", metavar="NAME=FOLDER", help="Labelled images to choose int8 by."),
]
Test = Annotated[
    list[str] | None,
    typer.Option("--test", metavar="NAME=FOLDER", help="Labelled images to report quality on."),
]
Keep = Annotated[
    list[str] | None,
    typer.Option("--keep", metavar="CHANNEL", help="Output channels to keep; all by default."),
]
MinQuality = Annotated[
    float, typer.Option("--min-quality", help="Share of fp32's quality int8 must keep.")
]
HaloTolerance = Annotated[
    float,
    typer.Option(
        "--halo-tolerance",
        metavar="P",
        help="Largest change of a probability at a tile's border; 0: tiles are exact.",
    ),
]
