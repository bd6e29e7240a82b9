"""Options of ``cellseg-cli data ...``, command by command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellseg.commands.options import parse_numbers, parse_size

# --- shared ---

DatasetOut = Annotated[
    Path, typer.Option("--out", "-o", metavar="FOLDER", help="New or empty folder to write to.")
]
TileSide = Annotated[int, typer.Option("--tile", metavar="PX", min=16, help="Side of a tile.")]

# --- import ---

AnnotatedSource = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE", help="Folder, zip or tar archive, or COCO, LabelMe or GeoJSON file."
    ),
]
Form = Annotated[
    str,
    typer.Option(
        "--form",
        metavar="NAME",
        help="auto, binary, index, palette, cutout, instances, folders, coco, labelme, qupath.",
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--classes", metavar="NAME,...", help="Foreground classes in order of their value."
    ),
]
Palette = Annotated[
    str, typer.Option("--palette", metavar="NAME=#RRGGBB,...", help="Colours of RGB masks.")
]
Tolerance = Annotated[
    float, typer.Option("--tolerance", min=0, help="Largest RGB distance to a palette colour.")
]
MaskThreshold = Annotated[
    int, typer.Option("--threshold", min=0, max=254, help="JPEG and grey masks: foreground above.")
]
AnnotatedSlide = Annotated[
    Path | None,
    typer.Option("--slide", metavar="FILE", help="Slide of GeoJSON; else that of its name."),
]
SlideOverlap = Annotated[
    int, typer.Option("--overlap", metavar="PX", min=0, help="Shared by tiles of a slide.")
]
SlideTileMpp = Annotated[
    float | None,
    typer.Option("--mpp", metavar="MICRONS", help="Pixel size of tiles of a slide."),
]

# --- make-slide ---

SlideOut = Annotated[Path, typer.Argument(metavar="FILE.tif", help="Slide to write.")]
LabelledImages = Annotated[
    Path,
    typer.Option("--images", metavar="FOLDER", help="Labelled images: images/ masks/ labels/."),
]
SlideSize = Annotated[
    Any, typer.Option("--size", metavar="WxH", parser=parse_size, help="Pixels at level 0.")
]
TissuePart = Annotated[
    float, typer.Option("--tissue", metavar="0..1", help="Part of it that is tissue.")
]
SlideSeed = Annotated[int, typer.Option("--seed", help="The same seed, the same slide.")]

# --- preview ---

PreviewOut = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE.png", help="Picture to write.")
]
PreviewCount = Annotated[
    int, typer.Option("--count", min=1, max=300, help="Pairs of image and mask.")
]

# --- split ---

SplitSource = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Folder that 'data import' wrote.")
]
SplitOut = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="New or empty folder to write to."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Only look for leaks in a set that is split already.")
]
Shares = Annotated[
    Any,
    typer.Option("--shares", metavar="A,B,C", parser=parse_numbers, help="Train, valid, test."),
]
GroupPattern = Annotated[
    str | None,
    typer.Option(
        "--group-pattern", metavar="REGEX", help="Its first group in the name is the source."
    ),
]
GroupFolder = Annotated[
    bool, typer.Option("--group-folder", help="The folder an image came from is the source.")
]
GroupCsv = Annotated[
    Path | None,
    typer.Option("--group-csv", metavar="FILE", help="Columns stem, group and maybe split."),
]
SplitSeed = Annotated[int, typer.Option("--seed", help="The same seed, the same split.")]
LeakCheck = Annotated[
    bool,
    typer.Option(
        "--leak-check/--no-leak-check",
        help="Keep copies, overlapping and neighbouring crops together.",
    ),
]

# --- tile ---

TileSource = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of images and masks.")]
TileOverlap = Annotated[
    int, typer.Option("--overlap", metavar="PX", min=0, help="Shared by neighbouring tiles.")
]
MinForeground = Annotated[
    float, typer.Option("--min-foreground", min=0, max=1, help="Part that must be foreground.")
]
KeepEmpty = Annotated[
    float, typer.Option("--keep-empty", min=0, max=1, help="Part of the other tiles to keep.")
]
Reduced = Annotated[
    bool, typer.Option("--reduced", help="Add each image as a whole, reduced to a tile.")
]
TileSeed = Annotated[int, typer.Option("--seed", help="Decides which empty tiles are kept.")]

# --- synthesize ---

WhiteCells = Annotated[
    Path | None,
    typer.Option(
        "--white", metavar="FOLDER", help="Images of one white cell each, with cell_types.csv."
    ),
]
RedCells = Annotated[
    Path | None,
    typer.Option("--red", metavar="FOLDER", help="Fields of red cells with points/."),
]
Cutouts = Annotated[
    Path | None,
    typer.Option(
        "--cutouts", metavar="FOLDER", help="Your own: <class>/NAME.png with NAME_mask.png."
    ),
]
SmearCount = Annotated[
    int, typer.Option("--count", min=1, help="Training images; a tenth for valid and test.")
]
SmearSide = Annotated[int, typer.Option("--size", metavar="PX", help="Side of an image.")]
Clipped = Annotated[
    float, typer.Option("--clipped", min=0, max=1, help="Part of the cells the border cuts.")
]
Feather = Annotated[
    float, typer.Option("--feather", metavar="PX", min=0, help="Softness of pasted edges.")
]
MatchColours = Annotated[
    bool,
    typer.Option("--match-colours/--keep-colours", help="Bring cells to the field's colours."),
]
VaryGround = Annotated[
    float,
    typer.Option(
        "--vary-ground",
        min=0,
        max=0.9,
        help="Largest change of a field's ground colour, +-, a part of each channel.",
    ),
]
Processes = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; by default one a core.")
]
SmearSeed = Annotated[int, typer.Option("--seed", help="The same seed, the same bytes.")]
