"""Writes a data set: complete under its name, or not at all.

Files are made in a hidden folder inside the target and moved to their names at the end, the
manifest last. What stops in between leaves the target as it was.
"""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import DataError
from cellseg.runtime.bundles.class_file import CLASS_FILE, ClassFile, MaskClass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cellseg.data.form.sample import Sample

__all__ = [
    "MANIFEST",
    "DatasetWriter",
    "ManifestRow",
    "class_file",
    "read_manifest",
    "staged",
    "write_manifest",
    "write_png",
]

MANIFEST = "manifest.csv"
_STAGE = ".part-dataset"
_COPIED = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
_MAX_IDS = 65535


@dataclass(frozen=True)
class ManifestRow:
    """One image of a data set; columns of ``manifest.csv``."""

    split: str
    stem: str
    image: str
    mask: str
    labels: str
    width: int
    height: int
    foreground_fraction: float
    objects: int
    classes: str
    origin: str
    changes: str
    parent: str = ""


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a folder inside ``out`` to write to; move what it holds into ``out`` at the end.

    Raises
    ------
    DataError
        If ``out`` holds anything already.
    """
    stage = out / _STAGE
    is_used = out.exists() and (not out.is_dir() or any(p.name != _STAGE for p in out.iterdir()))
    if is_used:
        raise DataError(
            f"A data set is written to a new or empty folder. Received: {out}.",
            hint="Choose another -o, or remove the folder.",
        )
    was_there = out.exists()
    shutil.rmtree(stage, ignore_errors=True)  # of a run that was killed
    stage.mkdir(parents=True)
    try:
        yield stage
        parts = sorted(stage.iterdir(), key=lambda path: (path.name == MANIFEST, path.name))
        for path in parts:
            path.rename(out / path.name)
        stage.rmdir()
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        if not was_there:
            out.rmdir()
        raise


class DatasetWriter:
    """Writes samples into a folder, in the form that training reads.

    Parameters
    ----------
    folder : Path
        Where; exists.
    classes : sequence of MaskClass
        Foreground classes in order of their index.

    Attributes
    ----------
    rows : list of ManifestRow
        What was written.
    pixels : Counter
        Pixels of each class.
    changes, changed_images : Counter
        What was changed, in words: the numbers added up, and in how many images.
    """

    def __init__(self, folder: Path, classes: Sequence[MaskClass]) -> None:
        self.rows: list[ManifestRow] = []
        self.pixels: Counter[str] = Counter({item.name: 0 for item in classes})
        self.changes: Counter[str] = Counter()
        self.changed_images: Counter[str] = Counter()
        self._folder, self._classes = folder, tuple(classes)
        self._origins: dict[tuple[str, str], str] = {}

    def add(self, sample: Sample) -> ManifestRow:
        """Write the image, mask and labels of a sample.

        Raises
        ------
        DataError
            If the split has a sample of that name, which would be lost.
        """
        base = self._folder / sample.split
        name = (sample.split, sample.stem)
        if name in self._origins:
            raise DataError(
                "Each image comes once, with all that is annotated in it. Received: "
                f"{sample.stem!r} from {self._origins[name]} and from {sample.origin}.",
                hint="Join the annotations of one image into one file; name two images apart.",
            )
        self._origins[name] = sample.origin
        for part in ("images", "masks", "labels"):
            (base / part).mkdir(parents=True, exist_ok=True)
        image = base / "images" / f"{sample.stem}{_suffix(sample.image)}"
        _write_image(image, sample.image)
        labels = _sequential(sample)
        encode = 255 if len(self._classes) == 1 else 1
        write_png(base / "masks" / f"{sample.stem}.png", sample.classes.astype(np.uint8) * encode)
        write_png(base / "labels" / f"{sample.stem}.png", labels)
        row = self._row(sample, image, labels)
        self.rows.append(row)
        self.changes.update({change.text: change.number for change in sample.changes})
        self.changed_images.update({change.text for change in sample.changes})
        return row

    def finish(self) -> None:
        """Write ``classes.json`` and ``manifest.csv``."""
        class_file(self._classes).write(self._folder / CLASS_FILE)
        write_manifest(self._folder / MANIFEST, self.rows)

    def _row(self, sample: Sample, image: Path, labels: NDArray[Any]) -> ManifestRow:
        height, width = sample.classes.shape
        base = Path(sample.split)
        counts = np.bincount(sample.classes.ravel(), minlength=len(self._classes) + 1)
        names = [item.name for item in self._classes]
        self.pixels.update(dict(zip(names, counts[1:].tolist(), strict=True)))
        shares = [f"{name}={n}" for name, n in zip(names, counts[1:], strict=True)]
        return ManifestRow(
            split=sample.split,
            stem=sample.stem,
            image=(base / "images" / image.name).as_posix(),
            mask=(base / "masks" / f"{sample.stem}.png").as_posix(),
            labels=(base / "labels" / f"{sample.stem}.png").as_posix(),
            width=width,
            height=height,
            foreground_fraction=round(float(counts[1:].sum() / sample.classes.size), 4),
            objects=int(labels.max(initial=0)),
            classes=";".join(shares),
            origin=sample.origin,
            changes="; ".join(map(str, sample.changes)),
            parent=sample.parent,
        )


def read_manifest(root: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a data set's manifest.csv by stem; none where it has none."""
    path = root / MANIFEST
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["stem"]: row for row in csv.DictReader(file) if row.get("stem")}


def write_manifest(path: Path, rows: Sequence[ManifestRow]) -> None:
    """Write the rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ManifestRow.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def class_file(classes: Sequence[MaskClass]) -> ClassFile:
    """Describe the masks that `DatasetWriter` writes: 0 and 255 for one class, else indices."""
    one = len(classes) == 1
    background = MaskClass(0, "background", (0, 0, 0))
    entries = [
        MaskClass(255 if one else index, item.name, item.color)
        for index, item in enumerate(classes, start=1)
    ]
    return ClassFile("binary" if one else "index", (background, *entries))


def _suffix(image: Path | NDArray[Any]) -> str:
    return image.suffix.lower() if isinstance(image, Path) else ".png"


def _write_image(target: Path, image: Path | NDArray[Any]) -> None:
    if not isinstance(image, Path):
        write_png(target, np.ascontiguousarray(image[..., ::-1]))
        return
    assert target.suffix in _COPIED, image  # readers give pixels of anything else
    shutil.copyfile(image, target)


def write_png(path: Path, array: NDArray[Any]) -> None:
    """Write an array as OpenCV orders it (grey or BGR) to a PNG, quickly rather than tightly."""
    import cv2

    done, data = cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done, path
    path.write_bytes(data.tobytes())


def _sequential(sample: Sample) -> NDArray[np.uint16]:
    """Return objects numbered 1..n; without labels, the connected pieces of each class."""
    if sample.labels is not None:
        found, ids = np.unique(np.where(sample.classes > 0, sample.labels, 0), return_inverse=True)
        ids = ids.reshape(sample.classes.shape) + (0 if 0 in found else 1)
    else:
        ids = _pieces(sample.classes)
    if ids.max(initial=0) > _MAX_IDS:
        raise DataError(
            f"An image holds at most {_MAX_IDS} objects. Received: {sample.origin} with "
            f"{ids.max()}.",
            hint="Cut image and annotation into smaller images first.",
        )
    return np.asarray(ids, np.uint16)


def _pieces(classes: NDArray[Any]) -> NDArray[Any]:
    import cv2

    ids = np.zeros(classes.shape, np.int32)
    for index in np.unique(classes[classes > 0]):
        count, pieces = cv2.connectedComponents((classes == index).astype(np.uint8))
        offset = int(ids.max())
        ids[pieces > 0] = pieces[pieces > 0] + offset
        assert count > 0
    return ids
