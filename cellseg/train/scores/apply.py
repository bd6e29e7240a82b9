"""Segments the folders of images that a recipe names, as the seeds' inferencers did.

For each image a mask of its own size and name, PNG without loss: 0 and 255 for two classes, class
indices for more, or the classes' colours with ``infer.colorize``; and if asked for a picture of the
image with the mask painted on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.errors import DataError
from cellseg.train.images.cell_crops import drawable
from cellseg.train.images.masks import read_image
from cellseg.train.images.pairs import image_files
from cellseg.train.networks.predict import class_map
from cellseg.train.tasks.class_task import palette

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.networks.predict import Predictor
    from cellseg.train.progress import Progress
    from cellseg.train.sections import Recipe

__all__ = ["apply_recipe", "mask_image", "painted"]

_USUAL = ("mini_test/images", "mini_test")


def apply_recipe(
    recipe: Recipe,
    root: Path,
    predictor: Predictor,
    progress: Progress | None = None,
    out: Path | None = None,
) -> list[Path]:
    """Segment what ``[infer]`` names, plain and in tiles; returns the folders of masks.

    Parameters
    ----------
    recipe : Recipe
        Folders, threshold, colours, tile and halo.
    root : Path
        Folder its paths start from.
    predictor : Predictor
        The model.
    progress : callable, optional
        Called with what is going on, how far it is, and how far it goes.
    out : Path, optional
        Folder that output folders start from, instead of ``root``.

    Raises
    ------
    DataError
        If a folder of images is missing or empty.
    """
    infer = recipe.infer
    jobs = [("plain", _plain_folder(recipe, root), infer.output, infer.merged)]
    if infer.tiled_images is not None:
        jobs.append(("tiled", root / infer.tiled_images, infer.tiled_output, infer.tiled_merged))
    base = root if out is None else out
    written = []
    for way, images, output, merged in jobs:
        target = base / output
        pictures = None if merged is None else base / merged
        _apply(
            recipe, getattr(predictor, way), image_files(images), target, pictures, way, progress
        )
        written.append(target)
    return written


def _plain_folder(recipe: Recipe, root: Path) -> Path:
    if recipe.infer.images is not None:
        return root / recipe.infer.images
    for name in _USUAL:
        if (root / name).is_dir():
            return root / name
    raise DataError(
        "a recipe to infer with names a folder of images. Received: no infer.images, and no "
        f"{' or '.join(_USUAL)} in {root}.",
        hint="add [infer] images = ... (images_dir in a .config file), or --set infer.images=DIR",
    )


def _apply(
    recipe: Recipe,
    predict: Callable[[NDArray[Any]], NDArray[np.float32]],
    files: list[Path],
    target: Path,
    pictures: Path | None,
    way: str,
    progress: Progress | None,
) -> None:
    for folder in (target, pictures):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    names = _output_names(files)
    for done, path in enumerate(files, 1):
        image = read_image(path)
        classes = class_map(predict(image), recipe.infer.threshold)
        _write_png(target / names[path], mask_image(classes, recipe))
        if pictures is not None:
            _write_png(pictures / names[path], painted(image, classes, recipe))
        if progress is not None:
            progress(f"{way} inference", done, len(files))


def mask_image(classes: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    """Make the picture of a class map that is written, shape (H, W) or (H, W, 3)."""
    if recipe.infer.colorize:
        return palette(recipe)[classes]
    if len(recipe.class_list) == 2:
        return classes * np.uint8(255)
    return classes


def painted(
    image: NDArray[Any], classes: NDArray[np.uint8], recipe: Recipe, strength: float = 0.45
) -> NDArray[np.uint8]:
    """Paint a class map's foreground on its image.

    Parameters
    ----------
    image : uint8 or uint16, shape (H, W, 3)
        RGB.
    classes : uint8, shape (H, W)
        Class of each pixel.
    recipe : Recipe
        Its classes have the colours.
    strength : float
        Share of the colour, 0..1.

    Returns
    -------
    uint8, shape (H, W, 3)
    """
    base = drawable(image)
    tinted = (1 - strength) * base + strength * palette(recipe)[classes]
    return np.where(classes[..., None] > 0, np.rint(tinted), base).astype(np.uint8)


def _output_names(files: list[Path]) -> dict[Path, str]:
    """PNG name of each file; the suffix is kept where two files differ by it alone."""
    stems = [path.stem for path in files]
    return {
        path: f"{path.stem}.png" if stems.count(path.stem) == 1 else f"{path.name}.png"
        for path in files
    }


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    ordered = image[..., ::-1] if image.ndim == 3 else image
    encoded, data = cv2.imencode(".png", ordered)
    if not encoded:
        raise DataError(f"a mask must be written. Received: {path} cannot be encoded.")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data.tobytes())
    temporary.replace(path)
