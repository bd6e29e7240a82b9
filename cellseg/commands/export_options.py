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
    str | None,
    typer.Option(
        "--input-scale",
        metavar="NUMBER[,G,B]",
        help="What a lone file's float input multiplies bytes by: 1/255 by default for .onnx, "
        "1 for .keras.",
    ),
]
InputOffset = Annotated[
    str,
    typer.Option(
        "--input-offset",
        metavar="NUMBER[,G,B]",
        help="What is added then. Trained on (x/255 - mean) / std: scale 1 / (255 std), offset "
        "-mean / std, for red, green and blue.",
    ),
]
ChannelOrder = Annotated[
    str,
    typer.Option(
        "--channel-order",
        metavar="rgb|bgr",
        help="What a lone file was trained on; bgr is what OpenCV reads. Three numbers of "
        "--input-scale and --input-offset stand in that order.",
    ),
]
EngineTile = Annotated[
    int, typer.Option("--engine-tile", metavar="PX", help="Tile those engines take.")
]
Representative = Annotated[
    list[Path] | None,
    typer.Option(
        "--representative",
        metavar="FOLDER",
        help="Images, or slides, like those it will see; they need no labels. Their tiles give "
        "int8 its ranges and, without --test, show how far it agrees with fp32.",
    ),
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
    float | None,
    typer.Option(
        "--min-quality",
        metavar="SHARE",
        help="What int8 and fp16 must keep of fp32's quality, 0 to 1; without labelled images: how "
        "far they must agree with fp32. 0.99 by default, where agreement only warns.",
    ),
]
HaloTolerance = Annotated[
    float,
    typer.Option(
        "--halo-tolerance",
        metavar="P",
        help="Largest change of a probability at a tile's border; 0: tiles are exact.",
    ),
]
