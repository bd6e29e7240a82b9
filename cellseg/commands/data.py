"""``cellseg-cli data ...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cellseg.commands import data_options as own
from cellseg.commands import options as opt
from cellseg.commands.common import (
    counted,
    load_recipe,
    needs_extra,
    print_json,
    progress_bar,
    reports_errors,
)
from cellseg.errors import DataError

if TYPE_CHECKING:
    from cellseg.data.annotations.import_data import ImportReport
    from cellseg.data.smear.cutouts import Cutout
    from cellseg.data.smear.synthesize import SmearReport
    from cellseg.data.splits.split import SplitOptions, SplitReport

__all__ = ["import_annotated", "make_slide", "preview", "split", "synthesize", "tile"]


@reports_errors
def import_annotated(
    source: own.AnnotatedSource,
    out: own.DatasetOut,
    form: own.Form = "auto",
    classes: own.Classes = None,
    palette: own.Palette = "",
    tolerance: own.Tolerance = 24.0,
    threshold: own.MaskThreshold = 127,
    slide: own.AnnotatedSlide = None,
    tile: own.TileSide = 512,
    overlap: own.SlideOverlap = 0,
    mpp: own.SlideTileMpp = None,
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
    from cellseg.data.annotations.import_data import ImportOptions, import_data
    from cellseg.data.annotations.mask_files import MaskOptions
    from cellseg.data.annotations.qupath import QuPathOptions

    masks = MaskOptions(opt.parse_list(classes), palette, tolerance, threshold)
    options = ImportOptions(form, masks, QuPathOptions(slide, tile, overlap, mpp))
    with counted("importing") as progress:
        report = import_data(source, out, options, progress)
    if as_json:
        print_json(report.to_json())
    else:
        _print_import(out, report)


def _print_import(out: Path, report: ImportReport) -> None:
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
    out: own.SlideOut,
    images: own.LabelledImages,
    size: own.SlideSize = "16384x16384",
    tissue: own.TissuePart = 0.6,
    seed: own.SlideSeed = 0,
) -> None:
    """Make a slide of any size from real labelled images, with its exact truth beside it.

    Example:
      cellseg-cli data make-slide big.tif --images DATA/dsb/train --size 16384x16384
    """
    from cellseg.bench.slides.make_slide import make_slide as make

    made = make(out, size, tissue, seed, images)
    typer.echo(f"{made.slide}\n{made.classes}\n{made.instances}")
    width, height = made.size_wh
    typer.echo(f"{width} x {height} px, {made.tissue:.0%} tissue, {made.objects} objects", err=True)


@reports_errors
def preview(
    recipe: opt.RecipeName,
    data: opt.Data = None,
    out: own.PreviewOut = Path("preview.png"),
    count: own.PreviewCount = 24,
    settings: opt.Settings = None,
    verbose: opt.Verbose = False,
) -> None:
    """Draw images and masks exactly as training sees them, augmentation included.

    Example:
      cellseg-cli data preview nuclei --data DATA -o sheet.png
    """
    resolved = load_recipe(recipe, settings, verbose)
    with needs_extra("train"):
        from cellseg.train.loop.preview import preview_sheet
        from cellseg.train.recipes.recipe import data_folder
    with progress_bar() as progress:
        preview_sheet(resolved, data_folder(recipe, data), out, count, progress)
    typer.echo(out)


@reports_errors
def split(
    source: own.SplitSource,
    out: own.SplitOut = None,
    check: own.Check = False,
    shares: own.Shares = "0.8,0.1,0.1",
    group_pattern: own.GroupPattern = None,
    group_folder: own.GroupFolder = False,
    group_csv: own.GroupCsv = None,
    seed: own.SplitSeed = 0,
    leak_check: own.LeakCheck = True,
    as_json: opt.AsJson = False,
) -> None:
    """Divide a data set into train, valid and test by source, stratified by class, without leaks.

    Images of one source (patient, slide, field) stay together; so do images that are copies of
    each other, turned or mirrored, and crops that overlap or continue each other. --check looks
    at a set that is split already and exits with 1 if it leaks, or if a group of --group-... lies
    in two splits.

    Examples
    --------
      cellseg-cli data split data/mine -o data/mine-split
      cellseg-cli data split data/mine -o data/mine-split --group-pattern "^([^_]+)_"
      cellseg-cli data split data/theirs --check
    """
    from cellseg.data.splits.split import SplitOptions, split_data

    options = SplitOptions(shares, group_pattern, group_folder, group_csv, seed, leak_check)
    if check:
        _check_split(source, options)
        return
    if out is None:
        raise typer.BadParameter("--out is needed, or --check.")
    with counted("comparing") as progress:
        report = split_data(source, out, options, progress)
    if as_json:
        print_json(report.to_json())
    else:
        _print_split(out, report)


def _check_split(source: Path, options: SplitOptions) -> None:
    """List the pairs of images that splits share, and refuse the set if there are any."""
    from cellseg.data.splits.split import check_leaks

    with counted("comparing") as progress:
        dataset, leaks = check_leaks(source, progress, options)
    if not leaks:
        typer.echo(f"no leaks among {len(dataset.items)} images")
        return
    for leak in leaks:
        one, two = dataset.items[leak.one], dataset.items[leak.two]
        typer.echo(f"{one.name}  {two.name}  {leak.kind} {leak.likeness:.3f}")
    raise DataError(
        f"Splits share no image and no field. Received: {len(leaks)} pairs across splits.",
        hint="Divide the set anew: cellseg-cli data split DATASET -o FOLDER.",
    )


def _print_split(out: Path, report: SplitReport) -> None:
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
    source: own.TileSource,
    out: own.DatasetOut,
    tile: own.TileSide = 512,
    overlap: own.TileOverlap = 0,
    min_foreground: own.MinForeground = 0.001,
    keep_empty: own.KeepEmpty = 0.0,
    reduced: own.Reduced = False,
    seed: own.TileSeed = 0,
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
    out: own.DatasetOut,
    white: own.WhiteCells = None,
    red: own.RedCells = None,
    cutouts: own.Cutouts = None,
    count: own.SmearCount = 1000,
    size: own.SmearSide = 224,
    clipped: own.Clipped = 0.15,
    feather: own.Feather = 0.8,
    match_colours: own.MatchColours = True,
    vary_ground: own.VaryGround = 0.0,
    workers: own.Processes = None,
    seed: own.SmearSeed = 0,
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
    from cellseg.data.smear.synthesize import SmearOptions, synthesize_smears
    from cellseg.runtime.machine.facts import usable_cores

    cells = _cut_cells(white, red, cutouts)
    found = workers or usable_cores()
    options = SmearOptions(
        count, size, seed, feather, match_colours, clipped, vary_ground, workers=found
    )
    with counted("pasting") as progress:
        report = synthesize_smears(cells, out, options, progress)
    _print_smears(out, report)


def _cut_cells(white: Path | None, red: Path | None, cutouts: Path | None) -> list[Cutout]:
    from cellseg.data.smear.cutouts import cut_from_folders, cut_red_cells, cut_white_cells

    if white is None and red is None and cutouts is None:
        raise DataError(
            "A smear is made of cells. Received: none of --white, --red, --cutouts.",
            hint="cellseg-cli data synthesize -o smears --white wbc_tecom --red rbc_smear_points",
        )
    cells = [] if white is None else cut_white_cells(white)
    for part in () if red is None else cut_red_cells(red):
        cells += part
    return cells if cutouts is None else cells + cut_from_folders(cutouts)


def _print_smears(out: Path, report: SmearReport) -> None:
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
