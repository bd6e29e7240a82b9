"""How the network changes: a picture that grows by a row each epoch, and TensorBoard if wanted."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.errors import CellsegError
from cellseg.train.images.cell_crops import drawable
from cellseg.train.networks.predict import KerasPredictor, class_map
from cellseg.train.tasks.class_task import palette

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from cellseg.train.tasks.task import Task

__all__ = ["Watch", "require_tensorboard"]

_THUMB_PX, _LABEL_PX, _GAP_PX = 192, 64, 4


class Watch:
    """Pictures of a few images, one row an epoch, under a row of the images themselves.

    Parameters
    ----------
    task : Task
        Its recipe says which images, and whether plain, tiled or both.
    folder : Path
        The run's folder, where ``epochs-plain.png`` and ``epochs-tiled.png`` grow.
    """

    def __init__(self, task: Task, folder: Path) -> None:
        self._recipe, self._folder = task.recipe, folder
        watch = task.recipe.watch
        wanted = {"plain": watch.plain, "tiled": watch.tiled}
        self._ways = [way for way, is_wanted in wanted.items() if is_wanted and watch.count]
        self._images = task.watched()[: watch.count] if self._ways else []
        self._board = _open_board(folder) if watch.tensorboard else None

    def add(self, epoch: int, model: keras.Model, row: dict[str, Any]) -> None:
        """Add an epoch: what the model says of each image, and its metrics."""
        predictor = KerasPredictor(model, self._recipe)
        for way in self._ways:
            found = [getattr(predictor, way)(image) for image in self._images]
            self._grow(self._folder / f"epochs-{way}.png", str(epoch), found)
        if self._board is not None:
            for name, value in row.items():
                if name != "epoch":
                    self._board(name, float(value), epoch)

    def _grow(self, path: Path, label: str, found: list[NDArray[np.float32]]) -> None:
        colors, threshold = palette(self._recipe), self._recipe.infer.threshold
        thumbs = [_thumb(colors[class_map(item, threshold)]) for item in found]
        row = _row(label, thumbs)
        above = cv2.imread(str(path)) if path.exists() else None
        if above is None or above.shape[1] != row.shape[1]:
            above = _row("", [_thumb(drawable(image)) for image in self._images])[..., ::-1]
        cv2.imwrite(str(path), np.vstack([above, row[..., ::-1]]))


def _row(label: str, thumbs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    head = np.full((_THUMB_PX + _GAP_PX, _LABEL_PX, 3), 255, np.uint8)
    place = (4, _THUMB_PX // 2)
    cv2.putText(head, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    return np.hstack([head, *thumbs])


def _thumb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = _THUMB_PX / max(image.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=how)
    framed = np.full((_THUMB_PX + _GAP_PX, _THUMB_PX + _GAP_PX, 3), 255, np.uint8)
    framed[:height, :width] = small
    return framed


def require_tensorboard() -> None:
    """Raise CellsegError, with the line that installs it, if TensorBoard is not there."""
    if find_spec("tensorboard") is None:
        raise CellsegError(
            "watch.tensorboard needs tensorboard. Received: it is not installed.",
            hint="pip install 'cellseg[tensorboard]', or leave watch.tensorboard out.",
        )


def _open_board(folder: Path) -> Any:
    """Return what writes one scalar."""
    from tensorboard.summary import Writer

    writer = Writer(str(folder / "tensorboard"))

    def write(name: str, value: float, epoch: int) -> None:
        writer.add_scalar(name, value, epoch)
        writer.flush()

    return write
