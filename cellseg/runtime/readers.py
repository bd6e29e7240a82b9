"""Which reader opens a slide: decided by what the file *holds*.

Only formats that wear another one's clothes (an NDPI file is a TIFF, an MRXS file is a JPEG) are
picked by their suffix.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg.errors import SlideError

if TYPE_CHECKING:
    import os

    from cellseg.runtime.slide import Slide

__all__ = ["OPENSLIDE_SUFFIXES", "open_slide"]

OPENSLIDE_SUFFIXES = frozenset(
    {".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".dcm", ".svslide", ".bif", ".czi"}
)
_IMAGE_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_FORMATS_HINT = (
    "Give a slide (tiled TIFF, SVS, OME-TIFF; NDPI, MRXS, SCN, VMS or DICOM with cellseg[wsi]; "
    "OME-Zarr with cellseg[zarr]) "
    "or an image (PNG, JPEG, BMP, TIFF)."
)


def open_slide(path: str | os.PathLike[str], mpp: float | None = None) -> Slide:
    """Open a slide or an image with the reader that its content calls for.

    Parameters
    ----------
    path : path
        A file, an OME-Zarr folder, or a folder of DICOM files.
    mpp : float, optional
        Microns per level-0 pixel; overrides what the file says.

    Returns
    -------
    Slide
        Open; the caller closes it.

    Raises
    ------
    SlideError
        If there is no such file, it is empty, damaged, too large to open safely, of a format or
        pixel type that cannot be read, or ``mpp`` is not positive.
    """
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise SlideError(f"Microns per pixel must be positive. Received: mpp={mpp}.")
    where = Path(path)
    try:
        return _open_by_content(where, mpp)
    except OSError as error:
        raise SlideError(f"{where}: cannot be read: {error.strerror or error}.") from error


def _open_by_content(path: Path, mpp: float | None) -> Slide:
    if not path.exists():
        raise SlideError(f"{path}: no such file or folder.")
    if path.is_dir():
        return _open_folder(path, mpp)
    with path.open("rb") as file:
        head = file.read(132)
    if not head:
        raise SlideError(f"{path}: the file is empty (0 bytes).", hint="Copy or export it again.")
    if path.suffix.lower() in OPENSLIDE_SUFFIXES or head[128:] == b"DICM":
        from cellseg.runtime.openslide import open_openslide

        return open_openslide(path, mpp)
    if head.startswith(_TIFF_MAGIC):
        from cellseg.runtime.tiff import open_tiff

        return open_tiff(path, mpp)
    if head.startswith(_IMAGE_MAGIC):
        from cellseg.runtime.images import open_image

        return open_image(path, mpp)
    raise SlideError(f"{path}: not a slide or image of a known format.", hint=_FORMATS_HINT)


def _open_folder(path: Path, mpp: float | None) -> Slide:
    """Open an OME-Zarr store or a folder of DICOM files."""
    from cellseg.runtime.ngff import is_zarr_folder, open_ngff

    if is_zarr_folder(path) or path.suffix.lower() == ".zarr":
        return open_ngff(path, mpp)
    dicom = next((file for file in sorted(path.iterdir()) if _is_dicom(file)), None)
    if dicom is None:
        raise SlideError(
            f"{path}: a folder, but neither OME-Zarr nor of DICOM files.", hint=_FORMATS_HINT
        )
    from cellseg.runtime.openslide import open_openslide

    return open_openslide(dicom, mpp)


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
