"""``data synthesize``: smears with exact labels, as many as wanted, from real cells.

::

    cut-outs -> splits (80/10/10) -> plan -> for each field, in processes:
        make_field()  1000 x 1000 px of red cells
        224 px windows, cells pasted, clipped at borders, labels and boxes
        -> images/ masks/ labels/ colours/ boxes/

Every image depends on the seed and its place alone: not on the number of processes.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.form.sample import SPLITS
from cellseg.data.form.writer import (
    MANIFEST,
    ManifestRow,
    class_file,
    staged,
    write_manifest,
    write_png,
)
from cellseg.data.smear.classes import CLASSES
from cellseg.data.smear.field import Field, Placed, make_field
from cellseg.data.smear.paste import Canvas, turned
from cellseg.data.smear.plan import Background, ImagePlan, plan_smears
from cellseg.errors import DataError
from cellseg.runtime.bundles.class_file import CLASS_FILE
from cellseg.runtime.machine.facts import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.data.smear.cutouts import Cutout

__all__ = ["FACTS_FILE", "SmearOptions", "SmearReport", "synthesize_smears"]

FACTS_FILE = "synthesis.json"
_CLIP_SIDE, _CLIP_CORNER = 0.15, 0.10
"""Of the clipped cells: each side shows a half, each corner a quarter."""
_PARTS = ("images", "masks", "labels", "colours", "boxes")
_PALETTE = np.array([item.color for item in CLASSES], np.uint8)


@dataclass(frozen=True)
class SmearOptions:
    """What is made."""

    count: int = 1000
    """Training images; a tenth of it for validation and for test."""
    size_px: int = 224
    """Side of an image."""
    seed: int = 0
    """The same seed, the same bytes."""
    feather_px: float = 0.8
    """Softness of pasted edges, sigma."""
    match_colours: bool = True
    """Bring each cell from the colour of its own slide to that of the field."""
    clipped: float = 0.15
    """Part of the pasted cells that the border cuts."""
    vary_ground: float = 0.0
    """Largest change of each channel of a field's ground, +-, relative; matched cells follow."""
    workers: int = field(default_factory=usable_cores)
    """Processes."""


@dataclass
class SmearReport:
    """What was made."""

    images: dict[str, int]
    samples: dict[str, dict[str, int]]
    """Class to split to cut-outs."""
    objects: dict[str, int]
    """Class to objects, in all images."""
    class_weights: dict[str, float]
    """All pixels over a class's own, from the training images; null where there are none."""
    missing: list[str]
    """Classes without samples, in words."""


def synthesize_smears(
    cells: Sequence[Cutout],
    out: Path,
    options: SmearOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SmearReport:
    """Make a data set of smears.

    Parameters
    ----------
    cells : sequence of Cutout
        The library; red cells make up the fields, the others are pasted.
    out : Path
        New or empty folder.
    options : SmearOptions, optional
        How many, how large, seed.
    progress : callable, optional
        Called with images done and images in all.

    Raises
    ------
    DataError
        If there are too few cells, or an option is out of range.
    """
    options = options or SmearOptions()
    if options.count < 1 or not 32 <= options.size_px <= 1000 or not 0 <= options.clipped <= 1:
        raise DataError(
            "A smear has 32 to 1000 px, of which at least one is made. Received: "
            f"count={options.count}, size={options.size_px}, clipped={options.clipped}."
        )
    if not 0 <= options.vary_ground < 1:
        raise DataError(
            "A ground changes by a part, 0 to below 1. "
            f"Received: vary_ground={options.vary_ground}."
        )
    plan = plan_smears(cells, options.count, options.seed)
    total = sum(len(item.images) for item in plan.backgrounds)
    rows: list[ManifestRow] = []
    pixels = np.zeros(len(CLASSES), np.int64)
    with staged(out) as stage:
        for split in SPLITS:
            for part in _PARTS:
                (stage / split / part).mkdir(parents=True)
        for made, counted in _made(cells, plan.backgrounds, stage, options):
            rows += made
            pixels += counted
            if progress is not None:
                progress(len(rows), total)
        rows.sort(key=lambda row: (SPLITS.index(row.split), row.stem))
        report = _report(cells, plan.splits, rows, pixels, plan.missing)
        class_file(CLASSES[1:]).write(stage / CLASS_FILE)
        facts = {"seed": options.seed, "size_px": options.size_px, **vars(report)}
        (stage / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        write_manifest(stage / MANIFEST, rows)
    return report


def _made(
    cells: Sequence[Cutout], backgrounds: Sequence[Background], stage: Path, options: SmearOptions
) -> Iterator[tuple[list[ManifestRow], NDArray[np.int64]]]:
    """Make the images of every background, in processes where there are several."""
    work = partial(_make_background, stage=stage, options=options)
    if options.workers <= 1:
        _keep(cells)
        yield from map(work, backgrounds)
        return
    # Not forked: OpenCV's threads, started while cells were cut out, would be missing in a child.
    context = multiprocessing.get_context("spawn")
    library = list(cells)
    with ProcessPoolExecutor(
        options.workers, context, initializer=_keep, initargs=(library,)
    ) as pool:
        try:
            yield from pool.map(work, backgrounds)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_LIBRARY: list[Cutout] = []


def _keep(cells: Sequence[Cutout]) -> None:
    """Hold the library once in each process, with one thread: the processes share the cores."""
    import cv2

    cv2.setNumThreads(1)
    _LIBRARY[:] = cells


def _make_background(
    background: Background, *, stage: Path, options: SmearOptions
) -> tuple[list[ManifestRow], NDArray[np.int64]]:
    split = SPLITS.index(background.split)
    rng = np.random.default_rng((options.seed, 3, split, background.index))
    red = [_LIBRARY[place] for place in background.red]
    ground = make_field(red, rng, options.feather_px, options.match_colours, options.vary_ground)
    rows = []
    pixels = np.zeros(len(CLASSES), np.int64)
    for plan in background.images:
        image_rng = np.random.default_rng((options.seed, 4, split, plan.index))
        canvas, placed = _compose(ground, plan, image_rng, options)
        if background.split == "train":
            pixels += np.bincount(canvas.classes.ravel(), minlength=len(CLASSES))
        rows.append(_write(stage, background, plan, canvas, placed))
    return rows, pixels


def _compose(
    ground: Field, plan: ImagePlan, rng: np.random.Generator, options: SmearOptions
) -> tuple[Canvas, list[Placed]]:
    """Cut a window out of a field and paste the planned cells into it."""
    side = options.size_px
    y0, x0 = (int(rng.integers(extent - side + 1)) for extent in ground.classes.shape)
    window = np.s_[y0 : y0 + side, x0 : x0 + side]
    canvas = Canvas(
        ground.rgb[window].copy(), ground.classes[window].copy(), ground.ids[window].copy()
    )
    number = len(ground.cells)
    pasted: list[Placed] = []
    for place in plan.cells:
        cell = _LIBRARY[place]
        part = turned(
            cell, rng, options.feather_px, ground.ground if options.match_colours else None
        )
        clipped = bool(rng.random() < options.clipped)
        centre = _centre(rng, side, part.mask.shape, clipped, pasted)
        if centre is None:
            continue  # no room left: many large cells
        number += 1
        box = canvas.paste(part, centre, cell.class_index, number)
        if box is not None:
            pasted.append(Placed(cell.name, cell.class_index, number, centre, box, clipped))
    placed = _visible_red(ground, (x0, y0), side, pasted) + pasted
    return canvas, [item for cell in placed if (item := _as_seen(cell, canvas.ids)) is not None]


def _as_seen(cell: Placed, ids: NDArray[np.uint16]) -> Placed | None:
    """Draw a cell's box around what later cells left of it; None where that is nothing."""
    left, top, right, bottom = cell.box
    ys, xs = np.nonzero(ids[top:bottom, left:right] == cell.number)
    if not ys.size:
        return None
    box = (left + int(xs.min()), top + int(ys.min()), left + int(xs.max()) + 1)
    return replace(cell, box=(*box, top + int(ys.max()) + 1))


def _centre(
    rng: np.random.Generator,
    side: int,
    hw: tuple[int, ...],
    clipped: bool,
    others: Sequence[Placed],
) -> tuple[int, int] | None:
    """Place a cell clear of those pasted before; None where twenty tries find no room."""
    half = max(hw) // 2
    for _ in range(20):
        if clipped:
            x, y = _on_border(rng, side, half)
        else:
            low, high = min(half, side // 2), max(side - half, side // 2 + 1)
            x, y = (int(v) for v in rng.integers(low, high, 2))
        clear = (
            max(abs(x - o.centre_xy[0]), abs(y - o.centre_xy[1]))
            > 0.8 * half + max(o.box[2] - o.box[0], o.box[3] - o.box[1]) / 2
            for o in others
        )
        if all(clear):
            return x, y
    return None


def _on_border(rng: np.random.Generator, side: int, half: int) -> tuple[int, int]:
    """Centre on a side (half of the cell is seen) or in a corner (a quarter is)."""
    shares = np.array([_CLIP_SIDE] * 4 + [_CLIP_CORNER] * 4)
    kind = int(rng.choice(8, p=shares / shares.sum()))
    inside = int(rng.integers(min(half, side // 2), max(side - half, side // 2 + 1)))
    last = side - 1
    sides = ((0, inside), (last, inside), (inside, 0), (inside, last))
    return (*sides, (0, 0), (last, 0), (0, last), (last, last))[kind]


def _visible_red(
    ground: Field, origin: tuple[int, int], side: int, pasted: Sequence[Placed]
) -> list[Placed]:
    """Red cells whose centre is in the window and not under a pasted cell's inner half."""
    x0, y0 = origin
    found = []
    for cell in ground.cells:
        x, y = cell.centre_xy[0] - x0, cell.centre_xy[1] - y0
        covered = any(
            abs(x - p.centre_xy[0]) < (p.box[2] - p.box[0]) / 4
            and abs(y - p.centre_xy[1]) < (p.box[3] - p.box[1]) / 4
            for p in pasted
        )
        if 0 <= x < side and 0 <= y < side and not covered:
            left, top, right, bottom = cell.box
            box = (
                max(0, left - x0),
                max(0, top - y0),
                min(side, right - x0),
                min(side, bottom - y0),
            )
            found.append(Placed(cell.sample, cell.class_index, cell.number, (x, y), box))
    return found


def _write(
    stage: Path, background: Background, plan: ImagePlan, canvas: Canvas, placed: Sequence[Placed]
) -> ManifestRow:
    names = [CLASSES[_LIBRARY[i].class_index].name[:4].capitalize() for i in plan.cells]
    unique = list(dict.fromkeys(names))
    head = "_".join(unique if len(unique) <= 3 else ["multiInstance"]) or "blankBackground"
    stem = f"{head}_{background.kind}_{background.split}_{plan.index:06}"
    base = stage / background.split
    write_png(base / "images" / f"{stem}.png", np.ascontiguousarray(canvas.rgb[..., ::-1]))
    write_png(base / "masks" / f"{stem}.png", canvas.classes)
    write_png(base / "labels" / f"{stem}.png", canvas.ids)
    colours = _PALETTE[canvas.classes]
    write_png(base / "colours" / f"{stem}.png", np.ascontiguousarray(colours[..., ::-1]))
    boxes = [_box(item) for item in placed]
    text = json.dumps({"bgName": f"{background.kind}_{background.index}", "objects": boxes})
    (base / "boxes" / f"{stem}.json").write_text(text, encoding="utf-8")
    counts = np.bincount(canvas.classes.ravel(), minlength=len(CLASSES))
    shown = Counter(CLASSES[item.class_index].name for item in placed)
    return ManifestRow(
        split=background.split,
        stem=stem,
        image=f"{background.split}/images/{stem}.png",
        mask=f"{background.split}/masks/{stem}.png",
        labels=f"{background.split}/labels/{stem}.png",
        width=canvas.classes.shape[1],
        height=canvas.classes.shape[0],
        foreground_fraction=round(float(counts[1:].sum() / counts.sum()), 4),
        objects=len(placed),
        classes=";".join(f"{name}={n}" for name, n in shown.items()),
        origin=f"field {background.split} {background.index} ({background.kind})",
        changes="synthesized",
    )


def _box(item: Placed) -> dict[str, Any]:
    """One object with the seed's keys."""
    left, top, right, bottom = item.box
    return {
        "className": CLASSES[item.class_index].name,
        "classIdx": item.class_index,
        "posX": item.centre_xy[0],
        "posY": item.centre_xy[1],
        "bboxW": right - left,
        "bboxH": bottom - top,
        "tlX": left,
        "tlY": top,
        "samplePath": item.sample,
        "clipped": item.clipped,
        "label": item.number,
    }


def _report(
    cells: Sequence[Cutout],
    splits: Sequence[str],
    rows: Sequence[ManifestRow],
    pixels: NDArray[np.int64],
    missing: list[str],
) -> SmearReport:
    samples = {item.name: dict.fromkeys(SPLITS, 0) for item in CLASSES[1:]}
    for cell, split in zip(cells, splits, strict=True):
        samples[CLASSES[cell.class_index].name][split] += 1
    objects: Counter[str] = Counter()
    for part in chain.from_iterable(row.classes.split(";") for row in rows if row.classes):
        name, _, count = part.rpartition("=")
        objects[name] += int(count)
    weights = {
        item.name: round(float(pixels.sum() / n), 2)
        for item, n in zip(CLASSES, pixels.tolist(), strict=True)
        if n
    }
    images = dict(Counter(row.split for row in rows))
    return SmearReport(images, samples, dict(objects), weights, missing)
