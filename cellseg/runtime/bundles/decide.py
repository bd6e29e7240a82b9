"""The rule that turns a network's channels into classes: a bundle's own, or a user's threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.bundles.manifest import InteriorBorder, ModelCard

__all__ = ["ClassRule", "cell_rule"]

_HALF = 0.5
_LEAST = 1e-6


@dataclass(frozen=True)
class ClassRule:
    """Class of a pixel from its channels.

    The probability of a class is the sum of its channels. With a threshold a pixel is its likeliest
    foreground class where that reaches the threshold, and background elsewhere. Without one it is
    its likeliest class; a tie goes to the lower index.
    """

    channel_class: tuple[int, ...]
    """Class that each channel adds to; -1 for channels that are no probability."""

    class_count: int
    """Classes, background included."""

    threshold: float | None
    """Least probability of foreground; None: the likeliest class."""

    @classmethod
    def of(cls, card: ModelCard, threshold: float | None = None) -> ClassRule:
        """Return a model's rule, with another threshold if one is given.

        A model whose channels leave background out has no likeliest class; 0.5 decides there.
        """
        indices = tuple(
            -1 if channel.class_index is None else channel.class_index for channel in card.channels
        )
        if threshold is None:
            threshold = card.threshold
        if threshold is None and 0 not in indices:
            threshold = _HALF
        return cls(indices, len(card.classes), threshold)

    def classes(
        self,
        channels: NDArray[np.float32],
        yx: tuple[int, int],
        hw: tuple[int, int],
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Decide a window of a tile.

        Parameters
        ----------
        channels : float32, shape (h, w, C)
            The network's output for a tile.
        yx, hw : (int, int)
            Origin and size of the window in the tile.
        out : uint8, shape hw, optional
            Where to write.

        Returns
        -------
        uint8, shape hw
            Class indices; ``out`` where it was given.
        """
        from cellseg.runtime.kernels.stitch import decide_by_argmax, decide_by_threshold

        out = np.empty(hw, np.uint8) if out is None else out
        table = np.array(self.channel_class, np.int64)
        if self.threshold is None:
            decide_by_argmax(channels, *yx, table, self.class_count, out)
        else:
            limit = np.float32(self.threshold)
            decide_by_threshold(channels, *yx, table, self.class_count, limit, out)
        return out

    def foreground(
        self, channels: NDArray[np.float32], yx: tuple[int, int], hw: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Return the probability of foreground in a window of a tile.

        Parameters
        ----------
        channels, yx, hw
            As in `classes`.

        Returns
        -------
        uint8, shape hw
            255 times the probability, rounded. Where background is a channel of its own, classes
            exclude each other and their sum counts; else the likeliest class does.
        """
        from cellseg.runtime.kernels.stitch import grey_foreground

        out = np.empty(hw, np.uint8)
        table = np.array(self.channel_class, np.int64)
        grey_foreground(channels, *yx, table, self.class_count, 0 in self.channel_class, out)
        return out


def cell_rule(card: ModelCard, threshold: float | None) -> InteriorBorder | None:
    """Return how a model's cells are told apart where foreground begins at a threshold.

    Parameters
    ----------
    card : ModelCard
        Its ``head.instances`` is the rule at the model's own threshold.
    threshold : float or None
        Of the classes, see `ClassRule.threshold`.

    Returns
    -------
    InteriorBorder or None
        None where the model tells no cells apart. A cell's pixels are sure as far above the
        threshold as they are at the model's own, in log-odds: else the faint pixels that a lower
        one adds to a cell would make it too faint to be one.
    """
    rule = card.head.instances
    own, used = (_HALF if each is None else each for each in (card.threshold, threshold))
    if rule is None or used == own or rule.sure_probability == 1:
        return rule
    odds = _log_odds(rule.sure_probability) + _log_odds(used) - _log_odds(own)
    return rule.model_copy(update={"sure_probability": 1 / (1 + math.exp(-odds))})


def _log_odds(probability: float) -> float:
    probability = min(max(probability, _LEAST), 1 - _LEAST)  # a bundle's threshold may be 0 or 1
    return math.log(probability / (1 - probability))
