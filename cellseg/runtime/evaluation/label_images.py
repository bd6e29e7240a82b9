"""Label images in folders: those of a prediction and those of the truth, in pairs by name.

A folder holds PNG, TIFF or NPY files, or is what ``infer -o`` made: a folder an input, with
``labels.ome.tif`` in it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import DataError
from cellseg.runtime.slides.png_palette import palette_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["LabelPair", "find_label_images", "pair_label_images", "read_label_image"]

_LOG = logging.getLogger(__name__)
_SUFFIXES = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".png", ".npy")
_RESULT = "labels.ome.tif"
_CUT_UP = 3
"""Objects under others may be cut into as many pieces."""
_JUDGED, _WINDOW_PX = 8, 2048
"""So many numbers of so large a part tell objects from a mask."""


@dataclass(frozen=True)
class LabelPair:
    """Two files of one image."""

    stem: str
    """Name that both have in common."""
    predicted: Path
    """What was found."""
    truth: Path
    """What there is."""

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read both label maps, int (H, W).

        Raises
        ------
        DataError
            If one cannot be read, or their sizes differ.
        """
        predicted, truth = read_label_image(self.predicted), read_label_image(self.truth)
        if predicted.shape != truth.shape:
            raise DataError(
                f"A prediction has the size of its truth. Received: predicted={predicted.shape}, "
                f"truth={truth.shape} for {self.stem}.",
                hint="Where the model works at another pixel size than the truth was drawn at, "
                "run it with --mpp set to the model's own.",
            )
        return predicted, truth


def pair_label_images(predicted: Path, truth: Path) -> list[LabelPair]:
    """Pair the label images of two folders, or two files.

    Parameters
    ----------
    predicted, truth : Path
        Folders, see `find_label_images`; or a file each, or what ``infer`` made of one input each.

    Raises
    ------
    DataError
        If there are none, or a true one has no counterpart: leaving it out would flatter.
    """
    predicted, truth = _result_or_itself(predicted), _result_or_itself(truth)
    if predicted.is_file() and truth.is_file():
        return [LabelPair(_stem(truth), predicted, truth)]
    found, wanted = find_label_images(predicted), find_label_images(truth)
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise DataError(
            "Every true label image has a predicted one of its name. Received: none for "
            f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''} "
            f"({len(missing)} of {len(wanted)}) in {predicted}.",
            hint="Run the model on all of them, or leave those out of --truth.",
        )
    if len(found) > len(wanted):
        _LOG.warning(
            "%d predicted label images have no truth and are left out", len(found) - len(wanted)
        )
    return [LabelPair(stem, found[stem], wanted[stem]) for stem in sorted(wanted)]


def find_label_images(folder: Path) -> dict[str, Path]:
    """Return the label images of a folder by their names without suffix.

    Taken are, whichever come first: its ``labels.ome.tif``, files in it, folders in it that hold
    ``labels.ome.tif``, files in its folder ``labels``.

    Raises
    ------
    DataError
        If there are none, or two have one name.
    """
    if (result := _result_or_itself(folder)).is_file():
        return {_stem(result): result}
    if not folder.is_dir():
        raise DataError(f"Label images lie in a folder. Received: no folder {folder}.")
    found = sorted(_files(folder)) or [
        path for path in sorted(folder.glob(f"*/{_RESULT}")) if path.is_file()
    ]
    if not found and (folder / "labels").is_dir():
        found = sorted(_files(folder / "labels"))
    if not found:
        raise DataError(
            f"A folder of label images holds PNG, TIFF or NPY files. Received: none in {folder}.",
            hint="Results of `cellseg-cli infer -o FOLDER` are taken too, with labels.ome.tif.",
        )
    by_stem = {_stem(path): path for path in found}
    if len(by_stem) < len(found):
        twice = next(path for path in found if by_stem[_stem(path)] != path)
        raise DataError(
            f"Label images differ in name, not only in suffix. Received: {twice.name} and "
            f"{by_stem[_stem(twice)].name} in {folder}."
        )
    return by_stem


def read_label_image(path: Path) -> NDArray[Any]:
    """Read a label map, int (H, W).

    Raises
    ------
    DataError
        If it cannot be decoded, or is not one channel of whole numbers.
    """
    labels = _plane(_decoded(path))
    if labels.ndim != 2:
        raise DataError(
            "A label image has one channel: the number of the object at each pixel. "
            f"Received: shape={labels.shape} for {path}.",
            hint="Save numbers as a grey image of 8, 16 or 32 bits, not their colours.",
        )
    kind = labels.dtype.kind
    if kind not in "buif" or (kind == "f" and not np.isfinite(labels).all()):
        raise DataError(
            "The values of a label image are whole numbers from 0 on. "
            f"Received: {labels.dtype} with values that are no numbers for {path}."
        )
    whole = labels if kind == "u" else labels.astype(np.int64)
    if kind != "u" and (not np.array_equal(whole, labels) or whole.min(initial=0) < 0):
        raise DataError(
            "The values of a label image are whole numbers from 0 on. "
            f"Received: {labels.dtype}, {labels.min()} to {labels.max()} for {path}."
        )
    _warn_of_mask(path, whole)
    return whole


def _plane(labels: NDArray[Any]) -> NDArray[Any]:
    """Drop axes of length 1 beyond height and width, and equal channels: grey saved as colour."""
    while labels.ndim > 2 and labels.shape[0] == 1:
        labels = labels[0]
    if labels.ndim == 3 and labels.shape[2] in (1, 3, 4):
        colours = labels[..., :3]
        return labels[..., 0] if (colours == colours[..., :1]).all() else labels
    return labels


def _decoded(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(_decode(path))
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise DataError(f"A label image can be decoded. Received: {path}: {error}.") from error


def _decode(path: Path) -> Any:
    suffix = path.suffix.lower()
    if not path.stat().st_size:
        raise ValueError("the file is empty")
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix in (".tif", ".tiff"):
        import tifffile

        try:
            return tifffile.imread(path, level=0)
        except tifffile.TiffFileError as error:  # no ValueError in older versions
            raise ValueError(str(error)) from error
    import cv2

    data = path.read_bytes()
    found = palette_numbers(data)
    if found is None:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise ValueError("no image")
    return found


def _warn_of_mask(path: Path, labels: NDArray[Any]) -> None:
    """Say so where most numbers lie in several pieces: those of masks, soft or not, and of classes.

    Judged by the numbers that are met most, near the middle of large images.
    """
    middle = labels[tuple(_middle(side) for side in labels.shape)]
    numbers, counts = np.unique(middle[middle > 0], return_counts=True)
    usual = numbers[np.argsort(counts)[::-1][:_JUDGED]]
    pieces = [_pieces(middle == number) for number in usual]
    least = 1 if len(numbers) == 1 else _CUT_UP
    if 2 * sum(count > least for count in pieces) <= len(pieces):
        return
    most = int(np.argmax(pieces))
    what = "one number," if len(numbers) == 1 else "most numbers in many pieces, like"
    _LOG.warning(
        "%s holds %s %d, in %d pieces: they count as one object. Is it a mask?",
        path, what, usual[most], pieces[most],
    )  # fmt: skip


def _middle(side_px: int) -> slice:
    start = max(0, (side_px - _WINDOW_PX) // 2)
    return slice(start, start + _WINDOW_PX)


def _pieces(shape: NDArray[np.bool_]) -> int:
    import cv2

    return int(cv2.connectedComponents(shape.astype(np.uint8), connectivity=8)[0]) - 1


def _result_or_itself(place: Path) -> Path:
    """Return the label image of what `infer` made of one input: its other maps are none."""
    result = place / _RESULT
    return result if result.is_file() else place


def _files(folder: Path) -> Iterator[Path]:
    return (
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.name.lower().endswith(_SUFFIXES)
        and not path.name.startswith(".")
    )


def _stem(path: Path) -> str:
    """Name without suffix; results of ``infer`` are named by their folder."""
    if path.name == _RESULT:
        return path.parent.name
    suffix = next((end for end in _SUFFIXES if path.name.lower().endswith(end)), "")
    return path.name[: len(path.name) - len(suffix)]
