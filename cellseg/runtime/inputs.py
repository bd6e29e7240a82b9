"""From what a user types (files, folders, globs) to the list of slides it means."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg.errors import SlideError
from cellseg.runtime.readers import OPENSLIDE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["SLIDE_SUFFIXES", "expand_inputs"]

SLIDE_SUFFIXES = OPENSLIDE_SUFFIXES | frozenset(
    {".bmp", ".btf", ".jpeg", ".jpg", ".png", ".svs", ".tf8", ".tif", ".tiff"}
)


def expand_inputs(inputs: Iterable[str]) -> list[Path]:
    """Turn files, folders and glob patterns into slides, in a stable order.

    Parameters
    ----------
    inputs : iterable of str
        A file is taken as it is; of a folder, the files in it that look like slides or images
        (folders inside are not searched); of a glob pattern, what it matches. An OME-Zarr folder
        and a folder of DICOM files are one slide each.

    Returns
    -------
    list of Path
        In the order given, sorted by name within a folder or pattern, each path once.

    Raises
    ------
    SlideError
        If an input does not exist, or a folder or pattern holds no slide.
    """
    found = (path for text in inputs for path in _expand(text))
    return list(dict.fromkeys(found))


def _expand(text: str) -> Iterator[Path]:
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
        raise SlideError(f"{text}: no such file or folder.", hint=_neighbour_hint(path))


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
    slides = [path for path in matched if path.is_file() or _is_slide_folder(path)]
    if not slides:
        raise SlideError(f"{pattern}: the pattern matches no file.")
    return slides


def _looks_like_slide(path: Path) -> bool:
    return _is_slide_folder(path) or (path.is_file() and path.suffix.lower() in SLIDE_SUFFIXES)


def _is_slide_folder(path: Path) -> bool:
    from cellseg.runtime.ngff import is_zarr_folder

    return is_zarr_folder(path) or (path.suffix.lower() == ".zarr" and path.is_dir())


def _neighbour_hint(path: Path) -> str | None:
    """Name the file that was probably meant."""
    import difflib

    if not path.parent.is_dir():
        return f"There is no folder {path.parent} either."
    names = [other.name for other in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / near[0]}?" if near else None
