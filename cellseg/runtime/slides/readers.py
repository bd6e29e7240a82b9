"""Which reader opens a slide: decided by what the file *holds*.

Only formats that wear another one's clothes (an NDPI file is a TIFF, an MRXS file is a JPEG) are
picked by their suffix.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellseg.errors import SlideError
from cellseg.runtime.slides.slide import check_mpp

if TYPE_CHECKING:
    import os

    from cellseg.runtime.slides.channels import Wanted
    from cellseg.runtime.slides.slide import Slide

__all__ = ["OPENSLIDE_SUFFIXES", "check_named", "files_of_series", "missing_file", "open_slide"]

OPENSLIDE_SUFFIXES = frozenset(
    {".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".dcm", ".svslide", ".bif", ".czi"}
)
_IMAGE_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Elements of DICOM as they lie in a file: tag and type; two bytes of length follow, then the text.
_IMAGE_TYPE = b"\x08\x00\x08\x00CS"
_SERIES = b"\x20\x00\x0e\x00UI"
_DICOM_HEAD_BYTES = 1 << 16
_ZIP_MAGIC = b"PK\x03\x04"
_FORMATS_HINT = (
    "Give a slide (tiled TIFF, SVS, OME-TIFF; NDPI, MRXS, SCN, VMS or DICOM with cellseg[wsi]; "
    "OME-Zarr with cellseg[zarr]) "
    "or an image (PNG, JPEG, BMP, TIFF). Microscopes' own formats (CZI, ND2, LIF, VSI, OIR): "
    "export them as OME-TIFF, with their own program, QuPath or bfconvert."
)


def open_slide(
    path: str | os.PathLike[str], mpp: float | None = None, channel: Wanted = None
) -> Slide:
    """Open a slide or an image with the reader that its content calls for.

    Parameters
    ----------
    path : path
        A file, an OME-Zarr folder, or a folder of DICOM files.
    mpp : float, optional
        Microns per level-0 pixel; overrides what the file says.
    channel : str or int, optional
        The only channel to read, as grey: its name, or its number from 1 on. Of an RGB image these
        are red, green and blue; of a stack that is not OME's, its pages.

    Returns
    -------
    Slide
        Open; the caller closes it.

    Raises
    ------
    SlideError
        If there is no such file, it is empty, damaged, too large to open safely, of a format or
        pixel type that cannot be read, has several channels that are not RGB and none is chosen,
        or has no such channel, or ``mpp`` is not positive.
    """
    if mpp is not None:
        check_mpp(mpp)
    check_named(path)
    where = Path(path)
    try:
        return _open_by_content(where, mpp, channel)
    except OSError as error:
        raise SlideError(f"{where}: cannot be read: {error.strerror or error}.") from error


def check_named(path: str | os.PathLike[str]) -> None:
    """Refuse an empty text, which to ``Path`` is the working folder."""
    if not str(path):
        raise SlideError(
            "An input is the name of a file or folder, or a pattern. Received: an empty text.",
            hint="If it comes from a variable of a script, that one is empty.",
        )


def missing_file(path: Path) -> SlideError:
    """Return the error for a path that is not there; its hint names the file that was meant."""
    import difflib

    if path.is_symlink():
        return SlideError(
            f"{path}: a link to {path.readlink()}, which is not there.",
            hint="Connect the disk it lies on, or make the link anew.",
        )
    error = f"{path}: no such file or folder."
    if not path.parent.is_dir():
        return SlideError(error, hint=f"There is no folder {path.parent} either.")
    names = [other.name for other in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    if near:
        return SlideError(error, hint=f"Did you mean {path.parent / near[0]}?")
    where = "" if path.is_absolute() else f" It starts at {_working_folder()}."
    return SlideError(error, hint=f"Check its path.{where}")


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "the working folder, which was removed: cd to another"


def _open_by_content(path: Path, mpp: float | None, channel: Wanted) -> Slide:
    if not path.exists():
        raise missing_file(path)
    if path.is_dir():
        return _open_folder(path, mpp, channel)
    if not path.is_file():  # to open a pipe would wait for one who writes to it
        raise SlideError(
            f"{path}: a slide must be a file or a folder. Received: a pipe or a device.",
            hint="Save what comes out of it to a file first.",
        )
    with path.open("rb") as file:
        head = file.read(132)
    if not head:
        raise SlideError(f"{path}: the file is empty (0 bytes).", hint="Copy or export it again.")
    if path.suffix.lower() in OPENSLIDE_SUFFIXES or head[128:] == b"DICM":
        from cellseg.runtime.slides.openslide import open_openslide

        return open_openslide(path, mpp, channel)
    if head.startswith(_TIFF_MAGIC):
        from cellseg.runtime.slides.tiff import open_tiff

        return open_tiff(path, mpp, channel)
    if head.startswith(_IMAGE_MAGIC):
        from cellseg.runtime.slides.images import open_image

        return open_image(path, mpp, channel)
    raise SlideError(f"{path}: not a slide or image of a known format.", hint=_stranger_hint(head))


def _stranger_hint(head: bytes) -> str:
    if head.startswith(_ZIP_MAGIC):
        return "It is a zip archive: unpack it and give what is inside (an OME-Zarr: its folder)."
    if head.lstrip()[:1] == b"<" or head.startswith(b"version https://git-lfs"):
        return "It holds text, not pixels: the download went wrong. Fetch it again."
    return _FORMATS_HINT


def _open_folder(path: Path, mpp: float | None, channel: Wanted) -> Slide:
    """Open an OME-Zarr store or a folder of DICOM files."""
    from cellseg.runtime.slides.ngff import is_zarr_folder, open_ngff

    if is_zarr_folder(path) or path.suffix.lower() == ".zarr":
        return open_ngff(path, mpp, channel)
    files = [file for file in sorted(path.iterdir()) if _is_dicom(file)]
    # A result may hold DICOM files, too; and a folder of them results beside them.
    if (path / "run.json").is_file() or (not files and any(path.glob("*/run.json"))):
        raise SlideError(
            f"{path}: a folder with results, not a slide.",
            hint=f"What infer wrote is shown by cellseg-cli report {path}",
        )
    if not files:
        raise SlideError(
            f"{path}: a folder, but neither OME-Zarr nor of DICOM files.", hint=_FORMATS_HINT
        )
    others = [file.name for file in sorted(path.iterdir()) if _is_other_slide(file)]
    if others:
        raise SlideError(
            f"{path}: a folder that is one slide holds DICOM files alone. "
            f"Received: others, too, such as {others[0]}.",
            hint=f"Give the file that is meant: {files[0]} or {path / others[0]}.",
        )
    series = _slides_among(files)
    if len(series) > 1:
        one_each = " ".join(str(file) for file in list(series.values())[:4])
        raise SlideError(
            f"{path}: a folder of DICOM files must hold one slide. Received: series={len(series)}.",
            hint=f"Give one file of each; those of its series are found beside it: {one_each}.",
        )
    from cellseg.runtime.slides.openslide import open_openslide

    return open_openslide(next(iter(series.values())), mpp, channel)


def _is_dicom(path: Path) -> bool:
    if not path.is_file() or path.name.upper() == "DICOMDIR":  # a list of files
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _is_other_slide(path: Path) -> bool:
    """Tell a slide of a format other than DICOM; a picture beside one may be its preview."""
    if not path.is_file() or path.name.startswith(".") or path.suffix.lower() == ".dcm":
        return False
    with path.open("rb") as file:
        return path.suffix.lower() in OPENSLIDE_SUFFIXES or file.read(4).startswith(_TIFF_MAGIC)


def files_of_series(path: Path) -> list[Path]:
    """Return the DICOM files beside one that are of its series, itself among them, by name."""
    files = [file for file in sorted(path.parent.iterdir()) if _is_dicom(file)]
    wanted = _dicom_value(_head_of(path), _SERIES)
    return [file for file in files if _dicom_value(_head_of(file), _SERIES) == wanted]


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_DICOM_HEAD_BYTES)


def _slides_among(files: list[Path]) -> dict[bytes, Path]:
    """Return the first file of each series; labels and overviews may have series of their own."""
    series: dict[bytes, Path] = {}
    for file in files:
        head = _head_of(file)
        kind, uid = _dicom_value(head, _IMAGE_TYPE), _dicom_value(head, _SERIES)
        if not any(word in kind for word in (b"LABEL", b"OVERVIEW")):
            series.setdefault(uid, file)
    return series or {b"": files[0]}


def _dicom_value(head: bytes, tag: bytes) -> bytes:
    """Find the text of an element, as it lies in the file; empty where it is not found."""
    _, _, rest = head.partition(tag)
    return rest[2 : 2 + int.from_bytes(rest[:2], "little")].rstrip(b"\0 ")
