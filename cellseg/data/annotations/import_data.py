"""``data import``: any annotation in, our one form out.

::

    SOURCE  folder, archive, or annotation file
      | unpack (checked)                 archives.py
      | recognize                        survey.py, pairs.py, is_coco(), ...
      v
    Annotated  classes + samples         mask_files.py, coco.py, qupath.py, ...
      | write, complete or not at all    writer.py
      v
    OUT/[split/]images masks labels  classes.json  manifest.csv
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cellseg.data.annotations.archives import is_archive, unpack
from cellseg.data.annotations.coco import is_coco, read_coco
from cellseg.data.annotations.labelme import is_labelme, read_labelme
from cellseg.data.annotations.mask_files import MASK_FORMS, MaskOptions, read_mask_files
from cellseg.data.annotations.nucleus_folders import is_nucleus_folders, read_nucleus_folders
from cellseg.data.annotations.qupath import QuPathOptions, is_geojson, read_qupath
from cellseg.data.form.pairs import find_files, pair_files
from cellseg.data.form.writer import DatasetWriter, staged
from cellseg.errors import DataError
from cellseg.runtime.bundles.class_file import CLASS_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cellseg.data.form.sample import Annotated

__all__ = ["FORMS", "ImportOptions", "ImportReport", "import_data"]

_JSON_FORMS = {"coco": is_coco, "labelme": is_labelme, "qupath": is_geojson}
FORMS = ("auto", *MASK_FORMS, "folders", *_JSON_FORMS)
_JSON_ENDS = (".json", ".geojson", ".json.gz", ".geojson.gz")
_MOST_JSON_BYTES = 1 << 30
_MOSTLY = 0.6


@dataclass(frozen=True)
class ImportOptions:
    """What the user said of the source."""

    form: str = "auto"
    """One of `FORMS`."""
    masks: MaskOptions = field(default_factory=MaskOptions)
    """Names of classes, palette, tolerance, threshold."""
    slides: QuPathOptions = field(default_factory=QuPathOptions)
    """Slide, tiles and pixel size of QuPath annotations."""


@dataclass
class ImportReport:
    """What came in and what was changed."""

    form: str
    images: dict[str, int]
    """Images of each split; the split's name is empty where there is none."""
    objects: int
    classes: dict[str, int]
    """Pixels of each foreground class."""
    notes: list[str] = field(default_factory=list)
    """Said of the whole source."""
    changes: dict[str, int] = field(default_factory=dict)
    """What was changed, in words, and in how many images."""

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return dict(vars(self))


def import_data(
    source: Path,
    out: Path,
    options: ImportOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Bring annotated images of any form into the one that training reads.

    Parameters
    ----------
    source : Path
        A folder, a zip or tar archive, or an annotation file (COCO, LabelMe, GeoJSON).
    out : Path
        New or empty folder; nothing is written elsewhere.
    options : ImportOptions, optional
        By default everything is recognized.
    progress : callable, optional
        Called with images done and images in all.

    Raises
    ------
    DataError
        If images and masks do not fit together, or the form is not recognized. ``out`` is then as
        it was before.
    """
    options = options or ImportOptions()
    if options.form not in FORMS:
        raise DataError(f"A form is one of {', '.join(FORMS)}. Received: {options.form!r}.")
    if "background" in (name.lower() for name in options.masks.class_names):
        raise DataError(
            "--classes names the foreground; what is no cell is background by itself. "
            f"Received: {','.join(options.masks.class_names)}.",
            hint="Leave background out.",
        )
    if not source.exists():
        raise DataError(
            f"A source is a folder, an archive or an annotation file. Received: no {source}."
        )
    with staged(out) as stage:
        unpacked = stage / "unpacked"
        if is_archive(source):
            unpack(source, unpacked)
            source = _only_folder(unpacked)
        annotated = _recognize(source, options)
        writer = DatasetWriter(stage, annotated.classes)
        for done, sample in enumerate(annotated.samples(), start=1):
            writer.add(sample)
            if progress is not None:
                progress(done, annotated.count)
        writer.finish()
        shutil.rmtree(unpacked, ignore_errors=True)
    return _report(annotated, writer)


def _recognize(source: Path, options: ImportOptions) -> Annotated:
    names = options.masks.class_names
    root = source if source.is_dir() else _root_of(source)
    form, files = options.form, [] if source.is_file() else find_files(source)
    has_masks = any(item.part != "image" for item in files)
    if form in _JSON_FORMS or (form == "auto" and not has_masks):
        kinds = _annotations(source)
        form = form if form != "auto" else next((kind for kind in kinds if kinds[kind]), "auto")
        if form in _JSON_FORMS and not kinds[form]:
            raise DataError(f"--form {form} needs annotation files. Received: none in {source}.")
        if form == "coco":
            return read_coco(kinds[form], root, names)
        if form == "labelme":
            return read_labelme(kinds[form], root, names)
        if form == "qupath":
            return read_qupath(kinds[form], root, names, options.slides)
    if source.is_file():
        raise DataError(
            f"A file that is imported holds annotations or is an archive. Received: {source}.",
            hint="COCO, LabelMe or GeoJSON; a zip or tar archive; or give the folder of images.",
        )
    if form == "folders" or (form == "auto" and is_nucleus_folders(files)):
        return read_nucleus_folders(files, root, names)
    return read_mask_files(pair_files(files, root), root, form, options.masks)


def _root_of(file: Path) -> Path:
    """Folder of an annotation file with its images; ``annotations/`` lies beside ``images/``."""
    is_part = file.parent.name.lower() in ("annotations", "annotation", "labels", "json")
    return file.parent.parent if is_part else file.parent


def _annotations(source: Path) -> dict[str, dict[Path, Any]]:
    """Return what annotation files hold, by form."""
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    found: dict[str, dict[Path, Any]] = {kind: {} for kind in _JSON_FORMS}
    for path in files:
        named = path.name.lower().endswith(_JSON_ENDS) and path.name != CLASS_FILE
        is_hidden = path.name.startswith(".") or "__MACOSX" in path.parts
        if not named or is_hidden or not path.is_file():
            continue
        tree = _json(path)
        kind = next((kind for kind, test in _JSON_FORMS.items() if test(tree)), None)
        if kind is not None:
            found[kind][path] = tree
    return found


def _json(path: Path) -> Any:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                data = file.read(_MOST_JSON_BYTES + 1)
        else:
            data = path.read_bytes()
        if len(data) > _MOST_JSON_BYTES:
            raise DataError(
                f"An annotation file has at most {_MOST_JSON_BYTES >> 20} MiB. Received: {path}."
            )
        return json.loads(data.decode("utf-8-sig") if data.startswith(b"\xef\xbb\xbf") else data)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"An annotation file is JSON. Received: {path} ({error}).") from error


def _only_folder(folder: Path) -> Path:
    """Step into a folder that holds nothing but one folder."""
    inside = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    return _only_folder(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder


def _doubts(writer: DatasetWriter) -> list[str]:
    """Name what looks as if it were not meant."""
    if not any(writer.pixels.values()):
        return ["no mask shows an object"]
    full = sum(row.foreground_fraction > _MOSTLY for row in writer.rows)
    if full <= len(writer.rows) / 2:
        return []
    return [f"more than {_MOSTLY:.0%} of {full} images is foreground: are the masks inverted?"]


def _report(annotated: Annotated, writer: DatasetWriter) -> ImportReport:
    return ImportReport(
        form=annotated.form,
        images=dict(Counter(row.split for row in writer.rows)),
        objects=sum(row.objects for row in writer.rows),
        classes=dict(writer.pixels),
        notes=annotated.notes + _doubts(writer),
        changes={
            text.format(n=f"{writer.changes[text]:,}"): count
            for text, count in writer.changed_images.items()
        },
    )
