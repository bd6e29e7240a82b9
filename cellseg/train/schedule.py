"""Learning rates (cosine, plateau, steps, constant; a linear warm-up) and optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

if TYPE_CHECKING:
    from cellseg.train.sections import FitRecipe

__all__ = ["StepRates", "make_optimizer", "rate_schedule", "reduced_rate"]


@keras.saving.register_keras_serializable(package="cellseg")
class StepRates(keras.optimizers.schedules.LearningRateSchedule):
    """Rates that hold from a step on, after a linear warm-up.

    Parameters
    ----------
    steps : list of int
        First step of each rate, ascending, the first 0.
    rates : list of float
        Rates.
    warmup_steps : int
        Steps over which the rate grows from 0.
    """

    def __init__(self, steps: list[int], rates: list[float], warmup_steps: int = 0) -> None:
        super().__init__()
        self._steps, self._rates, self._warmup = list(steps), list(rates), warmup_steps

    def __call__(self, step: Any) -> Any:
        """Rate at a step."""
        step = ops.cast(step, "float32")
        rate = ops.convert_to_tensor(self._rates[0], "float32")
        for first, value in zip(self._steps[1:], self._rates[1:], strict=True):
            rate = ops.where(step >= first, ops.cast(value, "float32"), rate)
        if self._warmup:
            rate = rate * ops.minimum(1.0, (step + 1.0) / self._warmup)
        return rate

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"steps": self._steps, "rates": self._rates, "warmup_steps": self._warmup}


def rate_schedule(fit: FitRecipe, steps_per_epoch: int) -> Any:
    """Return what the optimizer takes as its learning rate; a number with ``plateau``.

    A plateau's warm-up would be forgotten by a resume, so it has none.
    """
    if fit.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=fit.learning_rate / 50,
            warmup_target=fit.learning_rate,
            warmup_steps=fit.warmup_steps,
            decay_steps=max(1, fit.epochs * steps_per_epoch - fit.warmup_steps),
            alpha=0.01,
        )
    if fit.schedule == "plateau":
        return fit.learning_rate
    changes = fit.learning_rate_steps if fit.schedule == "steps" else ()
    named = {0: fit.learning_rate}
    named |= {(epoch - 1) * steps_per_epoch: rate for epoch, rate in sorted(changes)}
    return StepRates(list(named), list(named.values()), fit.warmup_steps)


def make_optimizer(fit: FitRecipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Make the optimizer with schedule and gradient clipping."""
    clip = {"global_clipnorm": fit.clipnorm} if fit.clipnorm else {}
    if fit.clipvalue:
        clip = {"clipvalue": fit.clipvalue}
    rate = rate_schedule(fit, steps_per_epoch)
    if fit.optimizer == "adam":
        return keras.optimizers.Adam(rate, **clip)
    return keras.optimizers.AdamW(rate, weight_decay=fit.weight_decay, **clip)


def reduced_rate(fit: FitRecipe, rate: float, epochs_without: int) -> float | None:
    """Return the next learning rate of a plateau, None while it is to stay.

    Parameters
    ----------
    fit : FitRecipe
        Factor, patience and least rate.
    rate : float
        The rate so far.
    epochs_without : int
        Epochs since the last better validation or reduction.
    """
    if fit.schedule != "plateau" or epochs_without < fit.reduce_patience:
        return None
    lower = max(rate * fit.reduce_factor, fit.min_learning_rate)
    return lower if lower < rate else None
