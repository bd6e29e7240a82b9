"""``cellseg-cli data ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import (
    counted,
    load_recipe,
    needs_extra,
    print_json,
    progress_bar,
    reports_errors,
)

__all__ = ["import_annotated", "make_slide", "preview", "split", "synthesize", "tile"]

DatasetOut = Annotated[
    Path, typer.Option("--out", "-o", metavar="FOLDER", help="New or empty folder to write to.")
]
TileSide = Annotated[int, typer.Option("--tile", metavar="PX", min=16, help="Side of a tile.")]


@reports_errors
def import_annotated(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder, zip or tar archive, or COCO, LabelMe or GeoJSON file."
        ),
    ],
    out: DatasetOut,
    form: Annotated[
        str,
        typer.Option(
            "--form",
            metavar="NAME",
            help="auto, binary, index, palette, cutout, instances, folders, coco, labelme, qupath.",
        ),
    ] = "auto",
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--classes", metavar="NAME,...", help="Foreground classes in order of their value."
        ),
    ] = None,
    palette: Annotated[
        str, typer.Option("--palette", metavar="NAME=#RRGGBB,...", help="Colours of RGB masks.")
    ] = "",
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", min=0, help="Largest RGB distance to a palette colour."),
    ] = 24.0,
    threshold: Annotated[
        int,
        typer.Option("--threshold", min=0, max=254, help="JPEG and grey masks: foreground above."),
    ] = 127,
    slide: Annotated[
        Path | None,
        typer.Option("--slide", metavar="FILE", help="Slide of GeoJSON; else that of its name."),
    ] = None,
    tile: TileSide = 512,
    overlap: Annotated[
        int, typer.Option("--overlap", metavar="PX", min=0, help="Shared by tiles of a slide.")
    ] = 0,
    mpp: Annotated[
        float | None,
        typer.Option("--mpp", metavar="MICRONS", help="Pixel size of tiles of a slide."),
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Bring annotated images of any form into the one that training reads.

    Writes images/ masks/ labels/ classes.json manifest.csv and says what was changed. The form
    is recognized: binary, index and colour masks, cut-outs on black, instance labels, a mask
    file for each nucleus, COCO, LabelMe, QuPath annotations on a slide.

    Examples
    --------
      cellseg-cli data import my-images -o data/mine --classes nucleus
      cellseg-cli data import masks.zip -o data/mine --palette "nucleus=#ff0000,cytoplasm=#00ff00"
      cellseg-cli data import instances.json -o data/coco
      cellseg-cli data import slide.geojson -o data/tiles --mpp 0.5 --tile 512
    """
    from cellseg.data.import_data import ImportOptions, import_data
    from cellseg.data.mask_files import MaskOptions
    from cellseg.data.qupath import QuPathOptions

    masks = MaskOptions(opt.parse_list(classes), palette, tolerance, threshold)
    options = ImportOptions(form, masks, QuPathOptions(slide, tile, overlap, mpp))
    with counted("importing") as progress:
        report = import_data(source, out, options, progress)
    if as_json:
        print_json(report.to_json())
        return
    splits = ", ".join(f"{count} {name or 'not split'}" for name, count in report.images.items())
    typer.echo(f"{out}\n  form        {report.form}\n  images      {splits}")
    typer.echo(f"  objects     {report.objects}")
    for name, pixels in report.classes.items():
        typer.echo(f"  class       {name}: {pixels:,} px")
    for text, count in report.changes.items():
        typer.echo(f"  changed     {text} (in {count} images)")
    for note in report.notes:
        typer.echo(f"  note        {note}")


@reports_errors
def make_slide(
    out: Annotated[Path, typer.Argument(metavar="FILE.tif", help="Slide to write.")],
    images: Annotated[
        Path,
        typer.Option("--images", metavar="FOLDER", help="Labelled images: images/ masks/ labels/."),
    ],
    size: Annotated[
        Any,
        typer.Option("--size", metavar="WxH", parser=opt.parse_size, help="Pixels at level 0."),
    ] = "16384x16384",
    tissue: Annotated[
        float, typer.Option("--tissue", metavar="0..1", help="Part of it that is tissue.")
    ] = 0.6,
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same slide.")] = 0,
) -> None:
    """Make a slide of any size from real labelled images, with its exact truth beside it.

    Example:
      cellseg-cli data make-slide big.tif --images DATA/dsb/train --size 16384x16384
    """
    from cellseg.bench.make_slide import make_slide as make

    made = make(out, size, tissue, seed, images)
    typer.echo(f"{made.slide}\n{made.classes}\n{made.instances}")
    width, height = made.size_wh
    typer.echo(f"{width} x {height} px, {made.tissue:.0%} tissue, {made.objects} objects", err=True)


@reports_errors
def preview(
    recipe: opt.RecipeName,
    data: opt.Data = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.png", help="Picture to write.")
    ] = Path("preview.png"),
    count: Annotated[
        int, typer.Option("--count", min=1, max=300, help="Pairs of image and mask.")
    ] = 24,
    settings: opt.Settings = None,
    verbose: opt.Verbose = False,
) -> None:
    """Draw images and masks exactly as training sees them, augmentation included.

    Example:
      cellseg-cli data preview nuclei --data DATA -o sheet.png
    """
    resolved = load_recipe(recipe, settings, verbose)
    with needs_extra("train"):
        from cellseg.train.preview import preview_sheet
        from cellseg.train.recipe import data_folder
    with progress_bar() as progress:
        preview_sheet(resolved, data_folder(recipe, data), out, count, progress)
    typer.echo(out)


@reports_errors
def split(
    source: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Folder that 'data import' wrote.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="New or empty folder to write to."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look for leaks in a set that is split already.")
    ] = False,
    shares: Annotated[
        Any,
        typer.Option(
            "--shares", metavar="A,B,C", parser=opt.parse_numbers, help="Train, valid, test."
        ),
    ] = "0.8,0.1,0.1",
    group_pattern: Annotated[
        str | None,
        typer.Option(
            "--group-pattern", metavar="REGEX", help="Its first group in the name is the source."
        ),
    ] = None,
    group_folder: Annotated[
        bool, typer.Option("--group-folder", help="The folder an image came from is the source.")
    ] = False,
    group_csv: Annotated[
        Path | None,
        typer.Option("--group-csv", metavar="FILE", help="Columns stem, group and maybe split."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same split.")] = 0,
    leak_check: Annotated[
        bool,
        typer.Option(
            "--leak-check/--no-leak-check",
            help="Keep copies, overlapping and neighbouring crops together.",
        ),
    ] = True,
    as_json: opt.AsJson = False,
) -> None:
    """Divide a data set into train, valid and test by source, stratified by class, without leaks.

    Images of one source (patient, slide, field) stay together; so do images that are copies of
    each other, turned or mirrored, and crops that overlap or continue each other. --check looks
    at a set that is split already and exits with 1 if it leaks.

    Examples
    --------
      cellseg-cli data split data/mine -o data/mine-split
      cellseg-cli data split data/mine -o data/mine-split --group-pattern "^([^_]+)_"
      cellseg-cli data split data/theirs --check
    """
    from cellseg.data.split import SplitOptions, check_leaks, split_data
    from cellseg.errors import DataError

    if check:
        with counted("comparing") as progress:
            dataset, leaks = check_leaks(source, progress)
        lines = [
            f"{dataset.items[leak.one].name}  {dataset.items[leak.two].name}  {leak.kind} "
            f"{leak.likeness:.3f}"
            for leak in leaks
        ]
        typer.echo("\n".join(lines) if leaks else f"no leaks among {len(dataset.items)} images")
        if leaks:
            raise DataError(
                f"Splits share no image and no field. Received: {len(leaks)} pairs across splits.",
                hint="Divide the set anew: cellseg-cli data split DATASET -o FOLDER.",
            )
        return
    if out is None:
        raise typer.BadParameter("--out is needed, or --check.")
    options = SplitOptions(shares, group_pattern, group_folder, group_csv, seed, leak_check)
    with counted("comparing") as progress:
        report = split_data(source, out, options, progress)
    if as_json:
        print_json(report.to_json())
        return
    counts = ", ".join(f"{count} {name}" for name, count in report.images.items())
    typer.echo(f"{out}\n  images      {counts}\n  groups      {report.groups}")
    for name, images in report.class_images.items():
        shown = ", ".join(f"{count} {split}" for split, count in images.items())
        typer.echo(f"  {name:<12}in {shown}")
    kinds = [leak.kind for leak in report.joined]
    for kind in sorted(set(kinds)):
        typer.echo(f"  joined      {kinds.count(kind)} pairs of kind {kind}")
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)


@reports_errors
def tile(
    source: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of images and masks.")],
    out: DatasetOut,
    tile: TileSide = 512,
    overlap: Annotated[
        int, typer.Option("--overlap", metavar="PX", min=0, help="Shared by neighbouring tiles.")
    ] = 0,
    min_foreground: Annotated[
        float, typer.Option("--min-foreground", min=0, max=1, help="Part that must be foreground.")
    ] = 0.001,
    keep_empty: Annotated[
        float, typer.Option("--keep-empty", min=0, max=1, help="Part of the other tiles to keep.")
    ] = 0.0,
    reduced: Annotated[
        bool, typer.Option("--reduced", help="Add each image as a whole, reduced to a tile.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Decides which empty tiles are kept.")] = 0,
) -> None:
    """Cut large annotated images into tiles; tiles of background are skipped.

    The last tile of a row lies flush with the border: nothing is padded. Splits are kept.

    Examples
    --------
      cellseg-cli data tile data/large -o data/tiles --tile 512
      cellseg-cli data tile data/large -o data/tiles --overlap 64 --keep-empty 0.1 --reduced
    """
    from cellseg.data.tile import TileOptions, tile_data

    options = TileOptions(tile, overlap, min_foreground, keep_empty, reduced, seed)
    with counted("cutting") as progress:
        report = tile_data(source, out, options, progress)
    typer.echo(
        f"{out}\n  {report.tiles} tiles of {report.images} images; {report.skipped} without "
        "foreground skipped"
    )


@reports_errors
def synthesize(
    out: DatasetOut,
    white: Annotated[
        Path | None,
        typer.Option(
            "--white", metavar="FOLDER", help="Images of one white cell each, with cell_types.csv."
        ),
    ] = None,
    red: Annotated[
        Path | None,
        typer.Option("--red", metavar="FOLDER", help="Fields of red cells with points/."),
    ] = None,
    cutouts: Annotated[
        Path | None,
        typer.Option(
            "--cutouts", metavar="FOLDER", help="Your own: <class>/NAME.png with NAME_mask.png."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, help="Training images; a tenth for valid and test.")
    ] = 1000,
    size: Annotated[int, typer.Option("--size", metavar="PX", help="Side of an image.")] = 224,
    clipped: Annotated[
        float, typer.Option("--clipped", min=0, max=1, help="Part of the cells the border cuts.")
    ] = 0.15,
    feather: Annotated[
        float, typer.Option("--feather", metavar="PX", min=0, help="Softness of pasted edges.")
    ] = 0.8,
    match_colours: Annotated[
        bool,
        typer.Option("--match-colours/--keep-colours", help="Bring cells to the field's colours."),
    ] = True,
    vary_ground: Annotated[
        float,
        typer.Option(
            "--vary-ground",
            min=0,
            max=0.9,
            help="Largest change of a field's ground colour, +-, a part of each channel.",
        ),
    ] = 0.0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; by default one a core.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same bytes.")] = 0,
) -> None:
    """Make blood smears with exact labels from real cells: ten classes, masks and boxes.

    Cells are divided 80/10/10 before any image is made. Red cells fill fields of 1000 px;
    white cells and platelets are pasted into windows of them. A class without samples is
    named and left out. Fields have the ground of the red cells' slides; --vary-ground gives each
    another light, for slides of other stains and lamps.

    Examples
    --------
      cellseg-cli data synthesize -o smears --white DATA/wbc_tecom --red DATA/rbc_smear_points
      cellseg-cli data synthesize -o smears --cutouts my-cells --count 65350 --workers 2
      cellseg-cli data synthesize -o smears --cutouts my-cells --vary-ground 0.2
    """
    import os

    from cellseg.data.smear.cutouts import cut_from_folders, cut_red_cells, cut_white_cells
    from cellseg.data.smear.synthesize import SmearOptions, synthesize_smears
    from cellseg.errors import DataError

    if white is None and red is None and cutouts is None:
        raise DataError(
            "A smear is made of cells. Received: none of --white, --red, --cutouts.",
            hint="cellseg-cli data synthesize -o smears --white wbc_tecom --red rbc_smear_points",
        )
    cells = [] if white is None else cut_white_cells(white)
    for part in () if red is None else cut_red_cells(red):
        cells += part
    cells += [] if cutouts is None else cut_from_folders(cutouts)
    found = workers or os.cpu_count() or 1
    options = SmearOptions(
        count, size, seed, feather, match_colours, clipped, vary_ground, workers=found
    )
    with counted("pasting") as progress:
        report = synthesize_smears(cells, out, options, progress)
    counts = ", ".join(f"{n} {split}" for split, n in report.images.items())
    typer.echo(f"{out}\n  images      {counts}")
    for name, samples in report.samples.items():
        parts = ", ".join(f"{n} {split}" for split, n in samples.items())
        weight = report.class_weights.get(name, "none")
        typer.echo(
            f"  {name:<20}{report.objects.get(name, 0):>8} objects from {parts}; weight {weight}"
        )
    for text in report.missing:
        typer.echo(f"note: {text}", err=True)
