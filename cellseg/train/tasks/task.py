"""What a training run is about: its crops, its loss, how it is validated, what its bundle says.

Two tasks: `InstanceTask` learns interior and border of numbered cells, `ClassTask` the class of
each pixel. `cellseg.train.loop.fit` runs either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    import numpy as np
    from numpy.typing import NDArray

    from cellseg.train.progress import Progress
    from cellseg.train.sections import Recipe

__all__ = ["Task", "open_task"]


class Task(Protocol):
    """One kind of training."""

    recipe: Recipe
    """What is asked for."""

    summary: str
    """What was found on disk, in a line."""

    def crops(self, first_step: int) -> Any:
        """Crops of every step from ``first_step`` on; has ``steps_per_epoch`` and ``names``."""
        ...

    def loss(self) -> keras.losses.Loss:
        """Return what is minimized."""
        ...

    def validate(self, model: keras.Model) -> dict[str, float]:
        """Columns of metrics.csv; ``val_loss`` is what decides."""
        ...

    def facts(self) -> dict[str, Any]:
        """Classes, channels, head and threshold, as ``model.json`` says them."""
        ...

    def show(self, model: keras.Model, picture: Path) -> None:
        """Write validation images, their truth and what the model says, side by side."""
        ...

    def watched(self) -> list[NDArray[np.uint8]]:
        """Images to look at each epoch, as they were read."""
        ...


def open_task(recipe: Recipe, root: Path, progress: Progress | None = None) -> Task:
    """Read and check the data of a recipe.

    Parameters
    ----------
    recipe : Recipe
        What to train, on what.
    root : Path
        Folder that its paths start from.
    progress : callable, optional
        Called with what is going on, how far it is, and how far it goes.

    Raises
    ------
    DataError
        If images and masks do not fit together; the file is named.
    """
    if recipe.target.kind == "instances":
        from cellseg.train.tasks.instance_task import InstanceTask

        return InstanceTask(recipe, root)
    from cellseg.train.tasks.class_task import ClassTask

    return ClassTask(recipe, root, progress)
