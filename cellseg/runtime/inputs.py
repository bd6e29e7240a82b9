"""From what a user types (files, folders, globs) to the list of slides it means."""

from __future__ import annotations

import glob
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg.errors import SlideError
from cellseg.runtime.slides.readers import OPENSLIDE_SUFFIXES, check_named, missing_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["SLIDE_SUFFIXES", "expand_inputs"]

SLIDE_SUFFIXES = OPENSLIDE_SUFFIXES | frozenset(
    {".bmp", ".btf", ".jpeg", ".jpg", ".png", ".qptiff", ".svs", ".tf2", ".tf8", ".tif", ".tiff"}
)


def expand_inputs(inputs: Iterable[str]) -> list[Path]:
    """Turn files, folders and glob patterns into slides, in a stable order.

    Parameters
    ----------
    inputs : iterable of str
        A file is taken as it is; of a folder, the files in it that look like slides or images
        (folders inside are not searched), and links with such names, so that one to a disk that is
        not there is told of; of a glob pattern, what it matches. Of both, not the files that
        earlier runs made: the same command must mean the same slides again. An OME-Zarr folder and
        a folder of DICOM files are one slide each.

    Returns
    -------
    list of Path
        In the order given, sorted by name within a folder or pattern, each file once, by the
        shortest of the ways through folders, or links to folders, that it was found by. A link to
        a file is an input of its own name.

    Raises
    ------
    SlideError
        If an input does not exist, or a folder or pattern holds no slide.
    """
    found = (path for text in inputs for path in _expand(text))
    real = cache(Path.resolve)
    unique: dict[Path, Path] = {}
    for path in found:  # a link to a folder that holds it gives each file forty times
        place = real(path.parent) / path.name  # results are named after its own name
        unique[place] = min(unique.get(place, path), path, key=lambda way: len(way.parts))
    return list(unique.values())


def _expand(text: str) -> Iterator[Path]:
    check_named(text)
    path = Path(text)
    if _is_slide_folder(path):
        yield path
    elif path.is_dir():
        yield from _slides_in(path)
    elif path.exists():
        yield path
    elif glob.has_magic(text):
        yield from _matches(text)
    else:
        raise missing_file(path)


def _slides_in(folder: Path) -> list[Path]:
    slides = [path for path in sorted(folder.iterdir()) if _looks_like_slide(path)]
    if not slides:
        raise SlideError(
            f"{folder}: the folder holds no slide or image.",
            hint=f"Known suffixes: {' '.join(sorted(SLIDE_SUFFIXES))}. "
            f"For folders inside: '{folder}/**/*.tif'.",
        )
    is_one_dicom_slide = all(path.suffix.lower() == ".dcm" for path in slides)
    return [folder] if is_one_dicom_slide else slides


def _matches(pattern: str) -> list[Path]:
    # Path.glob takes no absolute pattern.
    matched = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
    slides = [path for path in matched if _is_file(path) or _is_slide_folder(path)]
    slides = [path for path in slides if not _is_result(path)]
    if not slides:
        raise SlideError(f"{pattern}: the pattern matches no slide or image.")
    return slides


def _looks_like_slide(path: Path) -> bool:
    if path.name.startswith(".") or _is_result(path):  # macOS puts ._a.tif beside a.tif
        return False
    return _is_slide_folder(path) or (_is_file(path) and path.suffix.lower() in SLIDE_SUFFIXES)


def _is_file(path: Path) -> bool:
    """Say whether a listed name is a file's, or a link's to what is not there: that fails later."""
    # Not exists(): of a link that leads back it says no, too, forty folders down.
    return path.is_file() or (
        path.is_symlink() and not (path.parent.resolve() / path.readlink()).exists()
    )


def _is_result(path: Path) -> bool:
    """Say whether a run of ours made a file: by its name, and by what lies beside it."""
    from cellseg.runtime.jobs.outputs import OUTPUTS
    from cellseg.runtime.run.result_folder import LOG_NAME
    from cellseg.runtime.run.results import RUN_JSON
    from cellseg.runtime.store.result_store import STORE_NAME

    if path.name not in {RUN_JSON, LOG_NAME, *(output.file for output in OUTPUTS.values())}:
        return False
    return any((path.parent / mark).exists() for mark in (RUN_JSON, STORE_NAME))


def _is_slide_folder(path: Path) -> bool:
    from cellseg.runtime.slides.ngff import is_zarr_folder

    return is_zarr_folder(path) or (path.suffix.lower() == ".zarr" and path.is_dir())
