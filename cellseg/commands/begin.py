"""What a training run begins with: a run, a Keras file, or the weights of a bundle."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg.commands.common import needs_extra
from cellseg.errors import RecipeError

if TYPE_CHECKING:
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.train.sections import Recipe

__all__ = ["begin_file"]

_LOG = logging.getLogger("cellseg.train")
_FILE = "begin.keras"


def begin_file(recipe: Recipe, folder: Path, resume: bool) -> Path | None:
    """Return the Keras file that ``fit.init`` stands for; None: random weights.

    A bundle's weights are read back into a file of the run's folder, once.

    Raises
    ------
    BundleError
        If there is no such bundle.
    DataError
        If a bundle does not say how it was trained.
    ExportError
        If a bundle's weights cannot be read back.
    """
    begin = recipe.fit.init
    if begin is None:
        return None
    if resume and (folder / _FILE).is_file():
        return folder / _FILE
    path = Path(begin)
    if path.is_dir():
        path = path / "best.keras"
    if path.suffix == ".keras":
        return path
    from cellseg.runtime.bundles.bundle import Bundle

    bundle = Bundle.open(begin)
    with needs_extra("train"):
        from cellseg.train.loop.fit import check_folder
    check_folder(recipe, folder, resume)
    return _read_back(bundle, recipe, folder)


def _read_back(bundle: Bundle, recipe: Recipe, folder: Path) -> Path:
    with needs_extra("train,export"):
        from cellseg.export.read_back import read_back
        from cellseg.train.networks.model import build_network
        from cellseg.train.recipes.recipe import recipe_of_bundle
    try:
        trained = recipe_of_bundle(bundle)
    except RecipeError:  # of another version; its network may well be the run's own
        trained = recipe
    model = build_network(trained)
    read_back(bundle, model)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{os.getpid()}.{_FILE}"  # a name that Keras takes
    try:
        model.save(partial)
        partial.replace(folder / _FILE)
    finally:
        partial.unlink(missing_ok=True)
    card = bundle.manifest
    _LOG.info("weights of %s %s are in %s", card.name, card.version, folder / _FILE)
    return folder / _FILE
