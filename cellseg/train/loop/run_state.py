"""What a resume needs besides the model: epoch, best loss, averaged weights, patience used up."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from cellseg.errors import TrainingError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["RunState"]

_FILES = ("state.next.npz", "state.npz")
"""The one that waits counts if it names the model that is there: an older state may name none."""


@dataclass
class RunState:
    """State between two epochs."""

    epoch: int = 0
    """Epochs done."""

    best_loss: float = float("inf")
    """Best validation loss."""

    best_epoch: int = -1
    """Epoch it came in, from 0."""

    reduced_epoch: int = -1
    """Last epoch that was better, or after which the learning rate was reduced, from 0."""

    mean_weights: list[NDArray[np.float32]] = field(default_factory=list)
    """Running mean of the weights; empty without one."""

    def is_out_of_patience(self, patience: int) -> bool:
        """Say whether validation did not get better for so many epochs; 0: never."""
        return patience > 0 and self.epoch - 1 - self.best_epoch >= patience

    def save(self, folder: Path, model: Path) -> None:
        """Write to ``state.npz`` and rename ``model`` to ``last.keras``; no kill parts them.

        Two files cannot change at once, so a state names the bytes of its model, and waits as
        ``state.next.npz`` until that is in its place.
        """
        facts = np.array([self.epoch, self.best_loss, self.best_epoch, self.reduced_epoch])
        arrays: dict[str, Any] = {f"w{i}": value for i, value in enumerate(self.mean_weights)}
        following = folder / _FILES[0]
        np.savez(following, **arrays, facts=facts, model=np.array(_sha256(model)))
        model.replace(folder / "last.keras")
        following.replace(folder / _FILES[1])

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Say whether a folder holds a model and what `load` reads."""
        states = any((folder / name).exists() for name in _FILES)
        return states and (folder / "last.keras").exists()

    @classmethod
    def load(cls, folder: Path) -> RunState:
        """Read back what `save` wrote with the model that is there.

        Raises
        ------
        TrainingError
            If ``last.keras`` came from elsewhere.
        """
        model = _sha256(folder / "last.keras")
        for path in (folder / name for name in _FILES):
            if path.exists() and (state := cls._read(path, model)) is not None:
                return state
        raise TrainingError(
            "a run goes on with the weights that it saved. "
            f"Received: another last.keras in {folder} than its state.npz is about.",
            hint="put back the one that was there, or begin with it in a new folder: fit.init.",
        )

    @classmethod
    def _read(cls, path: Path, model: str) -> RunState | None:
        """Return the state in a file, if it is whole and that of a model."""
        try:
            opened = np.load(path)
        except (EOFError, ValueError, BadZipFile):  # a kill left half of it
            return None
        with opened as file:
            if "model" in file.files and str(file["model"]) != model:  # older runs do not name it
                return None
            epoch, best_loss, best_epoch, reduced_epoch = file["facts"]
            count = sum(name.startswith("w") for name in file.files)
            weights = [file[f"w{i}"] for i in range(count)]
        return cls(int(epoch), float(best_loss), int(best_epoch), int(reduced_epoch), weights)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
