"""``data split``: train, valid and test by source group, stratified by class, without leaks.

A group (a patient, a slide, a field) goes to one split as a whole: `groups` says what belongs to
one, `leaks` joins those that are alike, `deal` deals them out.
"""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.form.dataset import Dataset, Item, open_dataset
from cellseg.data.form.sample import SPLITS
from cellseg.data.form.writer import MANIFEST, read_manifest, staged
from cellseg.data.splits.deal import deal
from cellseg.data.splits.groups import groups_by_folder, groups_by_pattern, read_groups
from cellseg.data.splits.leaks import Leak, across_splits, find_leaks, join_groups
from cellseg.errors import DataError
from cellseg.runtime.bundles.class_file import CLASS_FILE, ClassFile, MaskClass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SplitOptions", "SplitReport", "check_leaks", "split_data"]

_SHOWN = 5


@dataclass(frozen=True)
class SplitOptions:
    """How a data set is divided."""

    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Parts of train, valid and test; brought to a sum of 1."""
    pattern: str | None = None
    """Regular expression; its first group in the file name, or all it matches, names the group."""
    by_folder: bool = False
    """The folder an image came from (``origin`` in manifest.csv) names the group."""
    table: Path | None = None
    """CSV with ``stem`` and ``group``, and optionally ``split``."""
    seed: int = 0
    """The same seed, the same split."""
    join_leaks: bool = True
    """Images that are alike, overlap or continue each other go to one split."""


@dataclass
class SplitReport:
    """What a split has become."""

    images: dict[str, int]
    """Images of each split."""
    groups: int
    """Groups that were dealt out."""
    class_images: dict[str, dict[str, int]]
    """Class to split to images that show it."""
    joined: list[Leak] = field(default_factory=list)
    """Images that were put into one group because they belong together."""
    warnings: list[str] = field(default_factory=list)
    """What the user should know."""

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {**vars(self), "joined": [vars(leak) for leak in self.joined]}


def split_data(
    source: Path,
    out: Path,
    options: SplitOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SplitReport:
    """Divide a data set.

    Parameters
    ----------
    source : Path
        A data set; one that is split already is dealt out anew.
    out : Path
        New or empty folder.
    options : SplitOptions, optional
        Shares, groups, seed.
    progress : callable, optional
        Called with images looked at and images in all.

    Raises
    ------
    DataError
        If a group is in two splits, a name comes twice, or there are fewer groups than splits.
    """
    options = options or SplitOptions()
    dataset = open_dataset(source)
    _check_names(dataset.items)
    groups, given = _groups(dataset, options)
    _check_given(groups, given)
    leaks = find_leaks(dataset.items, progress) if options.join_leaks else []
    joined = [leak for leak in leaks if groups[leak.one] != groups[leak.two]]
    groups = join_groups(groups, leaks)
    _check_given(groups, given, joined, dataset.items)
    present = _presence(dataset)
    splits = deal(groups, given, present, options.shares, options.seed)
    with staged(out) as stage:
        _copy(dataset, splits, groups, stage)
    report = _report(dataset, groups, splits, present)
    report.joined = joined
    report.warnings += _divided(_parents(dataset), splits)
    return report


def check_leaks(
    source: Path,
    progress: Callable[[int, int], None] | None = None,
    options: SplitOptions | None = None,
) -> tuple[Dataset, list[Leak]]:
    """Find the images of a split data set that belong together but lie in different splits.

    Raises
    ------
    DataError
        If a group that the options name lies in two splits, or there are no two splits.
    """
    dataset = open_dataset(source)
    splits = [item.split for item in dataset.items]
    if len(set(splits)) < 2:
        raise DataError(
            "A set whose splits are compared has two of train/, valid/ and test/ at least. "
            f"Received: {splits[0] or 'none'} in {source}.",
            hint="Divide it first: cellseg-cli data split DATASET -o FOLDER.",
        )
    if options is not None and (options.pattern or options.by_folder or options.table):
        groups, _ = _groups(dataset, options)
        _check_given(groups, splits)
    leaks = find_leaks(dataset.items, progress)
    return dataset, across_splits(leaks, splits)


def _check_names(items: Sequence[Item]) -> None:
    twice = [name for name, count in Counter(item.stem for item in items).items() if count > 1]
    if twice:
        raise DataError(
            "Each image of a data set has its own name. "
            f"Received: {', '.join(sorted(twice)[:_SHOWN])} more than once.",
            hint="Import them again: 'cellseg-cli data import' makes names unique.",
        )


def _groups(dataset: Dataset, options: SplitOptions) -> tuple[list[str], list[str]]:
    """Group of each image, and the split that a table gives it, or an empty string."""
    stems = [item.stem for item in dataset.items]
    chosen = [options.pattern is not None, options.by_folder, options.table is not None]
    if sum(chosen) > 1:
        raise DataError(
            "Groups come from one place: a pattern, folders or a table. Received: more."
        )
    if options.pattern is not None:
        return groups_by_pattern(options.pattern, stems), [""] * len(stems)
    if options.by_folder:
        return groups_by_folder(dataset.root, stems), [""] * len(stems)
    if options.table is not None:
        rows = read_groups(options.table, stems)
        return [rows[s][0] for s in stems], [rows[s][1] for s in stems]
    parents = [parent or stem for parent, stem in zip(_parents(dataset), stems, strict=True)]
    return parents if len(set(parents)) >= len(SPLITS) else stems, [""] * len(stems)


def _parents(dataset: Dataset) -> list[str]:
    """Image that each was cut from; empty where it is whole, or nobody says."""
    known = read_manifest(dataset.root)
    return [known.get(item.stem, {}).get("parent", "") for item in dataset.items]


def _divided(parents: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Say if tiles of one image lie in several splits."""
    places: dict[str, set[str]] = {}
    for parent, split in zip(parents, splits, strict=True):
        if parent:
            places.setdefault(parent, set()).add(split)
    divided = sorted(parent for parent, found in places.items() if len(found) > 1)
    if not divided:
        return []
    return [
        f"tiles of {divided[0]!r} lie in several splits ({len(divided)} images are divided so): "
        "scores will look better than they are"
    ]


def _check_given(
    groups: Sequence[str], given: Sequence[str], joined: Sequence[Leak] = (), items: Any = ()
) -> None:
    """Refuse a group that a table puts into two splits."""
    splits: dict[str, set[str]] = {}
    for group, split in zip(groups, given, strict=True):
        splits.setdefault(group, set()).add(split)
    divided = sorted(group for group, found in splits.items() if len(found - {""}) > 1)
    if not divided:
        return
    both = " and ".join(sorted(splits[divided[0]] - {""}))
    across = across_splits(joined, given)
    why = ""
    if across:
        leak = across[0]
        why = f" ({items[leak.one].stem} and {items[leak.two].stem}: {leak.kind})"
    raise DataError(
        f"A group lies in one split. Received: group {divided[0]!r} in {both}{why}.",
        hint="Mend the table, or divide the set anew; --no-leak-check leaves what only looks alike "
        "apart.",
    )


def _presence(dataset: Dataset) -> NDArray[np.bool_]:
    """Whether an image shows a class, shape (images, classes)."""
    found = np.zeros((len(dataset.items), len(dataset.classes)), bool)
    for row, item in zip(found, dataset.items, strict=True):
        indices = np.unique(dataset.read_classes(item))
        row[indices[indices > 0] - 1] = True
    return found


def _copy(dataset: Dataset, splits: Sequence[str], groups: Sequence[str], stage: Path) -> None:
    """Copy every image with its mask and labels; write classes.json and manifest.csv."""
    known = read_manifest(dataset.root)
    rows = []
    for item, split, group in zip(dataset.items, splits, groups, strict=True):
        row = dict(known.get(item.stem, {})) | {"split": split, "stem": item.stem, "group": group}
        parts = (("images", item.image), ("masks", item.mask), ("labels", item.labels))
        for part, path in parts:
            if path is not None:
                (stage / split / part).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, stage / split / part / path.name)
                row[part.removesuffix("s") if part != "labels" else part] = (
                    f"{split}/{part}/{path.name}"
                )
        rows.append(row)
    background = MaskClass(0, "background", (0, 0, 0))
    is_index = [entry.value for entry in dataset.classes] != [255]
    ClassFile("index" if is_index else "binary", (background, *dataset.classes)).write(
        stage / CLASS_FILE
    )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (stage / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _report(
    dataset: Dataset, groups: Sequence[str], splits: Sequence[str], present: NDArray[np.bool_]
) -> SplitReport:
    column = np.array(splits)
    images = {split: int((column == split).sum()) for split in SPLITS}
    class_images = {
        entry.name: {split: int(present[column == split, k].sum()) for split in SPLITS}
        for k, entry in enumerate(dataset.classes)
    }
    report = SplitReport(images, len(set(groups)), class_images)
    for name, counts in class_images.items():
        if sum(counts.values()) == 0:
            report.warnings.append(f"no image shows class {name!r}")
        elif counts["train"] == 0:
            report.warnings.append(f"class {name!r} is not in train: it cannot be learned")
        else:
            report.warnings += [
                f"class {name!r} is not in {split}: it cannot be measured there"
                for split in ("valid", "test")
                if counts[split] == 0 and images[split] > 0
            ]
    return report
