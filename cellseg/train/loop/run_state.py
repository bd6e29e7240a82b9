"""What a resume needs besides the model: epoch, best loss, averaged weights, patience used up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["RunState"]


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

    def save(self, folder: Path) -> None:
        """Write to ``state.npz``, replacing it at once."""
        facts = np.array([self.epoch, self.best_loss, self.best_epoch, self.reduced_epoch])
        arrays: dict[str, Any] = {f"w{i}": value for i, value in enumerate(self.mean_weights)}
        temporary = folder / "state.tmp.npz"
        np.savez(temporary, **arrays, facts=facts)
        temporary.replace(folder / "state.npz")

    @classmethod
    def load(cls, folder: Path) -> RunState:
        """Read back what `save` wrote."""
        with np.load(folder / "state.npz") as file:
            epoch, best_loss, best_epoch, reduced_epoch = file["facts"]
            weights = [file[f"w{i}"] for i in range(len(file.files) - 1)]
        return cls(int(epoch), float(best_loss), int(best_epoch), int(reduced_epoch), weights)
