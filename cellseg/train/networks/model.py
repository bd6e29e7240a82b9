"""The network of a recipe, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from cellseg.errors import DataError
from cellseg.train.families import build_model
from cellseg.train.families.summary import ModelSummary, macs, reach, summarize
from cellseg.train.networks.front import with_front

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.train.families import Head
    from cellseg.train.sections import Recipe


def build_network(recipe: Recipe, taught: bool = False) -> keras.Model:
    """Build the network that a recipe describes.

    Parameters
    ----------
    recipe : Recipe
        Its model, input and target.
    taught : bool
        Begin with the weights that ``model.weights`` names, as a new run does. Who has weights of
        their own, or only counts and measures, needs none of these files.

    Returns
    -------
    keras.Model
        RGB (N, H, W, 3), 0..255, to probabilities. For instances: softmax over background,
        interior, border, and if asked for a sigmoid channel of distance. For classes: one sigmoid
        channel where there are two, else softmax.
    """
    chosen = recipe.model if taught else recipe.model.untaught()
    params = chosen.model_dump(exclude={"family"})
    family = recipe.family
    if recipe.target.kind == "instances":
        head: Head = "softmax+distance" if recipe.target.distance else "softmax"
        body = build_model(family, params, 3, head=head)
    else:
        count = len(recipe.class_list)
        body = build_model(family, params, 1 if count == 2 else count)
    return with_front(body, recipe.input)


def summarize_network(recipe: Recipe) -> ModelSummary:
    """Count and measure the network of a recipe."""
    return summarize(build_network(recipe), recipe.model.stride, _narrow_network(recipe))


def reach_of(recipe: Recipe) -> int | None:
    """Measure how far past a tile's edge its network is felt, px; None: to no end."""
    return reach(_narrow_network(recipe), recipe.model.stride)


def _narrow_network(recipe: Recipe) -> keras.Model:
    """Build it as narrow as can be, without what changes pixels one by one; it sees as far."""
    changes = {
        "model": recipe.model.thinned(),
        "input": recipe.input.model_copy(update={"color": "rgb", "gamma": 1.0}),
    }
    return build_network(recipe.model_copy(update=changes))


def load_network(path: Path, compiled: bool = False) -> keras.Model:
    """Load a saved network of any family.

    Raises
    ------
    DataError
        If there is no such file, or it is no Keras 3 model.
    """
    # Layers and losses of our own have to be registered first.
    import cellseg.layers

    if compiled:
        import cellseg.train.losses  # noqa: F401

    try:
        return keras.saving.load_model(path, compile=compiled)
    except (ValueError, TypeError, OSError) as error:
        raise DataError(f"a model must be a Keras 3 file. Received: {path}: {error}.") from error


def take_over(model: keras.Model, source: keras.Model) -> tuple[int, int]:
    """Give a network the weights of another one's layers of the same name and shape.

    So a net of other classes, deeper levels or another head can begin where a trained one ended.

    Returns
    -------
    (int, int)
        Weights taken over, and weights in all, as numbers of parameters.

    Raises
    ------
    DataError
        If no layer fits.
    """
    given = {layer.name: layer.get_weights() for layer in source.layers}
    taken = 0
    for layer in model.layers:
        weights = given.get(layer.name, [])
        if weights and [w.shape for w in weights] == [w.shape for w in layer.get_weights()]:
            layer.set_weights(weights)
            taken += layer.count_params()
    if taken == 0:
        raise DataError(
            "fit.init names a network with layers of the same names and shapes. Received: none of "
            f"{len(source.layers)} layers fits.",
            hint="choose a run of the same family and model.base_filters.",
        )
    return taken, model.count_params()


def kflop_per_pixel(model: keras.Model, size: int = 1024) -> float:
    """Multiply-adds, counted as two operations, per input pixel, in 1000s."""
    return 2 * macs(model, size, size) / size**2 / 1000
