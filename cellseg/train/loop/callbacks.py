"""What happens between the steps and the epochs of a run."""

from __future__ import annotations

import csv
import logging
import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cellseg.errors import TrainingError
from cellseg.train.images.pictures import plot_metrics
from cellseg.train.schedule import reduced_rate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.loop.run_state import RunState
    from cellseg.train.loop.watch import Watch
    from cellseg.train.progress import Progress
    from cellseg.train.tasks.task import Task

__all__ = ["STOP_FILES", "EpochEnd", "LossGuard", "MeanWeights", "Reporter", "SeededDropout"]

log = logging.getLogger("cellseg.train")

STOP_FILES = ("STOP", "stop")
"""A file of this name in the run's folder ends the run after the epoch."""

_SNAPSHOT_STEPS = 20


class MeanWeights(keras.callbacks.Callback):
    """Running mean of all weights: ``mean = d * mean + (1 - d) * weights`` after each step.

    The decay d grows from 0 to ``decay`` over the first steps, so that the start is forgotten.
    """

    def __init__(self, decay: float, state: RunState, steps_before: int) -> None:
        super().__init__()
        self._decay, self._state, self._step = decay, state, steps_before

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Take the weights of one more step into the mean."""
        self._step += 1
        weights = self.model.get_weights()
        if not self._state.mean_weights:
            self._state.mean_weights = [np.array(value) for value in weights]
        decay = np.float32(min(self._decay, (1 + self._step) / (10 + self._step)))
        for mean, value in zip(self._state.mean_weights, weights, strict=True):
            if np.issubdtype(value.dtype, np.floating):
                mean += (1 - decay) * (value - mean)
            else:
                mean[...] = value  # a count, such as that of a Normalization layer, has no mean


class LossGuard(keras.callbacks.Callback):
    """Stops at the first loss that is no number, with the last good weights kept.

    Every few steps the weights are copied; at a bad loss the copy goes to ``last-good.keras``.
    """

    def __init__(self, folder: Path, crops: Any, state: RunState) -> None:
        super().__init__()
        self._folder, self._crops, self._state = folder, crops, state
        self._good: list[NDArray[np.float32]] = []
        self._good_step = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keep the weights that the epoch begins with."""
        self._keep(0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the loss."""
        loss = float((logs or {})["loss"])
        if not np.isfinite(loss):
            self._stop(batch, loss)
        elif (batch + 1) % _SNAPSHOT_STEPS == 0:
            self._keep(batch + 1)

    def _keep(self, step: int) -> None:
        weights = self.model.get_weights()
        # The loss of this step was computed before its update; a bad update shows in the weights.
        if all(np.isfinite(value).all() for value in weights):
            self._good, self._good_step = weights, step

    def _stop(self, batch: int, loss: float) -> None:
        self.model.set_weights(self._good)
        kept = self._folder / "last-good.keras"
        self.model.save(kept)
        step = self._state.epoch * self._crops.steps_per_epoch + batch
        names = ", ".join(self._crops.names(step))
        raise TrainingError(
            f"a loss must be a number. Received: loss={loss} in epoch {self._state.epoch + 1}, "
            f"batch {batch + 1} ({names}).",
            hint=f"{kept} has the weights of {batch - self._good_step + 1} batches before; lower "
            "fit.learning_rate, or clip gradients by fit.clipnorm.",
        )


class SeededDropout(keras.callbacks.Callback):
    """Starts every layer's random numbers anew each epoch, by seed and epoch.

    Keras saves no layer's random state, so that a resumed run would drop other units.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the state of each layer that has one."""
        for place, layer in enumerate(self.model.layers):
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                rng = np.random.default_rng((self._seed, epoch, place))
                state = rng.integers(0, 2**31, generator.state.shape)
                generator.state.assign(state.astype(generator.state.dtype))


class Reporter(keras.callbacks.Callback):
    """Says how far the run is."""

    def __init__(self, steps: int, progress: Progress | None) -> None:
        super().__init__()
        self._steps, self._progress = steps, progress
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Report a step."""
        if self._progress is not None:
            loss = float((logs or {})["loss"])
            self._progress(f"epoch {self._epoch + 1}, loss {loss:.4f}", batch + 1, self._steps)


class EpochEnd(keras.callbacks.Callback):
    """Validates, keeps the best, writes metrics, pictures and state, stops when it is time to."""

    def __init__(
        self, task: Task, folder: Path, state: RunState, best: keras.Model, watch: Watch
    ) -> None:
        super().__init__()
        self._task, self._folder, self._state = task, folder, state
        self._best, self._watch = best, watch
        self._started = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Validate, save, and decide whether to go on."""
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row: dict[str, Any] = {"epoch": epoch + 1, "loss": round(float((logs or {})["loss"]), 5)}
        row |= self._validate(epoch)
        row |= {"learning_rate": rate, "seconds": round(time.perf_counter() - self._started, 1)}
        _append_row(self._folder / "metrics.csv", row)
        plot_metrics(self._folder / "metrics.csv", self._folder / "metrics.png")
        self._watch.add(epoch + 1, self._best, row)
        self._reduce(epoch, rate)
        self._save(epoch)
        log.info(" ".join(f"{key}={value}" for key, value in row.items()))
        self._stop_if_due(epoch)

    def _validate(self, epoch: int) -> dict[str, float]:
        """Scores of the averaged weights, where there is a mean; keeps the best model."""
        # A network of its own: float32 whatever the policy, and no optimizer in its file.
        self._best.set_weights(self._state.mean_weights or self.model.get_weights())
        row = self._task.validate(self._best)
        is_best = row["val_loss"] < self._state.best_loss
        if is_best:
            self._state.best_loss = row["val_loss"]
            self._state.best_epoch = self._state.reduced_epoch = epoch
        if is_best or self._task.recipe.fit.keep == "last":
            temporary = self._folder / "best.tmp.keras"
            self._best.save(temporary)
            temporary.replace(self._folder / "best.keras")
        return row

    def _reduce(self, epoch: int, rate: float) -> None:
        fit = self._task.recipe.fit
        lower = reduced_rate(fit, rate, epoch - self._state.reduced_epoch)
        if lower is not None:
            log.info("no better validation: learning rate %g becomes %g", rate, lower)
            self.model.optimizer.learning_rate = lower
            self._state.reduced_epoch = epoch

    def _save(self, epoch: int) -> None:
        self._state.epoch = epoch + 1
        temporary = self._folder / "last.tmp.keras"
        self.model.save(temporary)
        self._state.save(self._folder, temporary)

    def _stop_if_due(self, epoch: int) -> None:
        patience = self._task.recipe.fit.patience
        found = [self._folder / name for name in STOP_FILES if (self._folder / name).exists()]
        if found:
            log.warning("%s found: stopped after epoch %d", found[0], epoch + 1)
            self.model.stop_training = True
        elif self._state.is_out_of_patience(patience):
            log.warning("no better validation for %d epochs: stopped", patience)
            self.model.stop_training = True


def _append_row(path: Path, row: dict[str, Any]) -> None:
    """Add an epoch; one that was written before the run was killed is written anew."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < row["epoch"]]
    temporary = path.with_suffix(".tmp.csv")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows([*rows, row])
    temporary.replace(path)
