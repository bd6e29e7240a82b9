"""Reading image and mask files: pixels, whatever wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["check_upright", "is_lossy", "read_image", "read_mask"]


def read_image(path: Path) -> NDArray[Any]:
    """Read an image, RGB (H, W, 3), in its own depth, as inference reads it.

    Raises
    ------
    SlideError
        If it cannot be read.
    """
    from cellseg.runtime.slides.readers import open_slide

    slide = open_slide(path)
    try:
        level = slide.levels[0]
        return np.asarray(slide.read_region(0, (0, 0), (level.height_px, level.width_px)))
    finally:
        slide.close()


def read_mask(path: Path) -> NDArray[Any]:
    """Read a mask as it is: grey (H, W) or RGB (H, W, 3); equal channels become one.

    Transparent pixels are black, for they show nothing; where nothing but the transparency differs
    it is the mask.

    Raises
    ------
    DataError
        If it cannot be decoded, holds more than one picture, or values that number nothing.
    """
    suffix = path.suffix.lower()
    if suffix in {".npy", ".npz"}:
        return _read_numpy(path)
    if suffix in {".tif", ".tiff"}:
        _check_one_page(path)
    found = _decoded(path)
    if found is None and suffix in {".tif", ".tiff"}:
        found = _read_tiff(path)
    if found is None:
        raise DataError(f"A mask must be an image that can be decoded. Received: {path}.")
    _check_numbers(path, found)
    if found.ndim == 3:
        colour = _without_transparency(found)
        if (colour == colour[..., :1]).all():
            return np.ascontiguousarray(colour[..., 0])
        return np.ascontiguousarray(colour[..., ::-1])
    return np.asarray(found)


def check_upright(path: Path) -> None:
    """Refuse an image that asks to be turned: outlines lie on what their program showed.

    Raises
    ------
    DataError
        If it has an EXIF orientation other than upright.
    """
    from cellseg.runtime.slides.orientation import UPRIGHT, exif_orientation

    tag = exif_orientation(path.read_bytes())
    if tag != UPRIGHT:
        raise DataError(
            "An image with outlines must be stored upright: some programs draw on the turned "
            f"picture, others on the stored one. Received: orientation tag {tag} of {path}.",
            hint="LabelMe and CVAT draw on the turned one: turn the pixels to it, magick mogrify "
            "-auto-orient FILE. If yours drew on the stored one, drop the tag: exiftool "
            "-Orientation= FILE.",
        )


def is_lossy(path: Path) -> bool:
    """Tell a JPEG, whatever its suffix says."""
    with path.open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"


def _read_tiff(path: Path) -> NDArray[Any] | None:
    """32-bit label maps, which OpenCV does not read."""
    import tifffile

    try:
        found = np.asarray(tifffile.imread(path, key=0))
    except (OSError, ValueError, tifffile.TiffFileError):
        return None
    return found[..., ::-1] if found.ndim == 3 else found


def _decoded(path: Path) -> NDArray[Any] | None:
    import cv2

    from cellseg.runtime.slides.orientation import as_stored

    data = np.fromfile(path, np.uint8)
    found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    return None if found is None else as_stored(found, path)


def _without_transparency(found: NDArray[Any]) -> NDArray[Any]:
    """Colours of (H, W, 3) or (H, W, 4), shape (H, W, 3)."""
    colour = found[..., :3]
    if found.shape[2] < 4 or found[..., 3].min() == found[..., 3].max():
        return colour
    if (colour == colour[:1, :1]).all():
        return np.repeat(found[..., 3:], 3, -1)
    return np.where(found[..., 3:] > 0, colour, 0)


def _read_numpy(path: Path) -> NDArray[Any]:
    """Read classes or instance ids, shape (H, W), from ``.npy``, or from ``.npz`` of one array."""
    try:
        found = np.load(path)  # never pickled objects, which can run code
        if not isinstance(found, np.ndarray):
            with found:
                (name,) = found.files
                found = found[name]
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"A mask in a NumPy file is one array of numbers. Received: {path} ({error}).",
            hint="A program's own file (Cellpose's _seg.npy): save its masks as PNG or TIFF.",
        ) from error
    _check_numbers(path, found)
    most = int(found.max(initial=0))
    if found.ndim != 2 or most >= 2**31:
        raise DataError(
            "A mask in a NumPy file has shape (H, W) and numbers below 2147483648. "
            f"Received: {path} with shape={found.shape}, dtype={found.dtype}."
        )
    return np.asarray(found, np.uint8 if most < 256 else np.int32)


def _check_numbers(path: Path, found: NDArray[Any]) -> None:
    """Refuse values that are no class and no object: parts, less than 0, no numbers at all."""
    is_whole = found.dtype.kind in ("b", "u") or (
        found.dtype.kind in "if"
        and bool(np.isfinite(found).all() and (found == np.rint(found)).all())
        and found.min(initial=0) >= 0
    )
    if not is_whole:
        raise DataError(
            "The values of a mask are whole numbers from 0 on. "
            f"Received: {path} of {found.dtype} with others.",
            hint="Probabilities: cut them where foreground begins, and save 0 and 255.",
        )


def _check_one_page(path: Path) -> None:
    """Refuse stacks: the first page alone would be taken, silently."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            pages = len(file.series[0].pages) if file.series else 1
            shapes = {page.shape for page in file.pages}
    except (OSError, ValueError, tifffile.TiffFileError):
        return  # whoever decodes it says what is wrong
    if pages > 1 and len(shapes) == 1:
        raise DataError(
            f"A mask is one picture. Received: {path} with {pages} pages.",
            hint="Save the page that belongs to the image, or classes as numbers in one picture.",
        )
