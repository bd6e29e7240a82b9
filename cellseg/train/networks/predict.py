"""A model's class probabilities for a whole image, as training saw it or tile by tile.

``plain`` scales the image as training did, runs it once and scales the probabilities back; a
bundle does so by itself.
``tiled`` runs tiles at the image's own scale by the runtime's plan: a core is kept, a halo is read
and dropped, border tiles are shifted inwards, nothing is padded inside or blended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellseg.errors import DataError
from cellseg.runtime.view.fit import bring_back, bring_to
from cellseg.train.images.stock import prepare_image

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from cellseg.runtime.segmenter import Segmenter
    from cellseg.train.sections import Recipe

__all__ = ["BundlePredictor", "KerasPredictor", "Predictor", "class_map", "open_predictor"]


class Predictor(Protocol):
    """Gives the probability of each class for each pixel of an image as it was read."""

    name: str
    """What runs, in words."""

    def plain(self, image: NDArray[Any], /) -> NDArray[np.float32]:
        """Map an image (H, W, 3) to (H, W, classes), run as a whole."""
        ...

    def tiled(self, image: NDArray[Any], /) -> NDArray[np.float32]:
        """Map an image (H, W, 3) to (H, W, classes), run in tiles at its own scale."""
        ...


class KerasPredictor:
    """A Keras model.

    Parameters
    ----------
    model : keras.Model
        The network.
    recipe : Recipe
        What it was trained with: scale, intensity range, classes, tile and halo.
    """

    def __init__(self, model: keras.Model, recipe: Recipe) -> None:
        self.model, self._recipe = model, recipe
        self.name = "Keras"

    def plain(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Map an image (H, W, 3) to (H, W, classes), run as a whole."""
        whole, fit_hw = prepare_image(image, self._recipe.normalize), self._recipe.fit_hw
        scaled = whole if fit_hw is None else bring_to(whole, fit_hw)
        return bring_back(self.prepared(scaled), whole.shape[:2])

    def tiled(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Map an image (H, W, 3) to (H, W, classes), run in tiles at its own scale."""
        from cellseg.runtime.tiles.plan import plan_tiles

        whole = prepare_image(image, self._recipe.normalize)
        stride = self._recipe.model.stride
        tile_px, halo_px = tile_and_halo(self._recipe)
        plan = plan_tiles((whole.shape[0], whole.shape[1]), tile_px, halo_px, stride)
        padded = _padded(whole, stride)
        out = np.empty((*whole.shape[:2], len(self._recipe.class_list)), np.float32)
        height, width = plan.tile_hw
        for tile in plan:
            y, x = tile.read_yx
            found = self.prepared(padded[y : y + height, x : x + width])
            out[tile.outer] = found[tile.inner]
        return out

    def prepared(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map a prepared image (H, W, 3) of any size to (H, W, classes)."""
        height, width = image.shape[:2]
        padded = _padded(image, self._recipe.model.stride)
        # Called, not `predict`, which compiles anew for every image size.
        raw = self.model(padded[None].astype(np.float32), training=False)[0]
        from keras import ops

        return as_classes(np.asarray(ops.convert_to_numpy(raw), np.float32), self._recipe)[
            :height, :width
        ]


class BundlePredictor:
    """A variant of a bundle, run by the engine that users run.

    Parameters
    ----------
    bundle : Path or str
        A ``.cellseg`` file or a shipped name.
    recipe : Recipe
        Classes of the data; scale and intensity range are the bundle's.
    **options
        Fields of `cellseg.runtime.jobs.options.InferOptions`: engine, precision, threads.
    """

    def __init__(self, bundle: Path | str, recipe: Recipe, **options: Any) -> None:
        from cellseg.runtime.bundles.bundle import Bundle
        from cellseg.runtime.segmenter import Segmenter

        self._card = Bundle.open(bundle).manifest
        self._as_trained = Segmenter.load(bundle, **options)
        self._native = Segmenter.load(bundle, fit="native", **options)
        self.name = f"{self._card.name} {self._card.version}"
        names = [item.name for item in self._card.classes]
        wanted = [item.name for item in recipe.class_list]
        if names != wanted:
            raise DataError(
                "bundle and recipe must have the same classes. "
                f"Received: bundle={', '.join(names)}, recipe={', '.join(wanted)}."
            )

    def plain(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Map an image (H, W, 3) to (H, W, classes), run as a whole."""
        return self._run(self._as_trained, image)

    def tiled(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Map an image (H, W, 3) to (H, W, classes), run in tiles at its own scale."""
        return self._run(self._native, image)

    def _run(self, segmenter: Segmenter, image: NDArray[Any]) -> NDArray[np.float32]:
        found = segmenter(image).probabilities
        count = len(self._card.classes)
        out = np.zeros((*found.shape[:2], count), np.float32)
        for place, channel in enumerate(self._card.channels):
            if channel.class_index is not None:
                out[..., channel.class_index] += found[..., place]
        if self._card.head.kind == "sigmoid" and not any(
            channel.class_index == 0 for channel in self._card.channels
        ):
            out[..., 0] = 1 - out[..., 1:].max(-1)
        return out


def open_predictor(model: Path | str, recipe: Recipe, **options: Any) -> Predictor:
    """Open what is to be scored or applied.

    Parameters
    ----------
    model : Path or str
        A run's folder, a ``.keras`` file, or a bundle (file or shipped name).
    recipe : Recipe
        What it was trained with.
    **options
        For a bundle: engine, precision, threads.

    Raises
    ------
    DataError
        If a run's folder holds no trained network, or classes differ.
    """
    from pathlib import Path as PathOf

    path = PathOf(model)
    if path.is_dir():
        path = path / "best.keras"
        if not path.is_file():
            raise DataError(
                f"a run's folder holds best.keras. Received: none in {path.parent}.",
                hint="train first: cellseg-cli train RECIPE",
            )
    if path.suffix != ".keras":
        return BundlePredictor(model, recipe, **options)
    from cellseg.train.networks.model import load_network

    return KerasPredictor(load_network(path), recipe)


def as_classes(raw: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """Bring a network's channels to classes, background first, shape (H, W, classes)."""
    if recipe.target.kind == "instances":
        return np.stack([raw[..., 0], 1 - raw[..., 0]], axis=-1)
    if raw.shape[-1] == 1:
        return np.concatenate([1 - raw, raw], axis=-1)
    return raw


def class_map(probabilities: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Decide: two classes by the threshold of the foreground, more by the largest probability.

    Parameters
    ----------
    probabilities : float32, shape (H, W, classes)
        Background first.
    threshold : float
        Foreground from this probability on, where there are two classes.

    Returns
    -------
    uint8, shape (H, W)
        Class of each pixel.
    """
    if probabilities.shape[-1] == 2:
        return (probabilities[..., 1] >= threshold).astype(np.uint8)
    return probabilities.argmax(-1).astype(np.uint8)


def tile_and_halo(recipe: Recipe) -> tuple[int, int]:
    """Side of a tile and its halo, px: a core of the recipe's tile with its overlap around it."""
    stride = recipe.model.stride
    core_px = recipe.infer.tile_px or recipe.input.size_px[0]
    halo_px = recipe.infer.overlap_px
    return -(-(core_px + 2 * halo_px) // stride) * stride, halo_px


def _padded(image: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Repeat the last row and column up to multiples of the stride, as the runtime does."""
    from cellseg.train.images.cell_crops import padded_to

    return padded_to(image, stride)
