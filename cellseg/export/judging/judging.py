"""What files are held against: labelled images, or, where there are none, fp32's own result.

Both are images with a truth, run and matched by the same code. What labels say is quality, image by
image. What fp32 says is only what fp32 says: a file that repeats its errors agrees with it fully.
So that is called agreement, everywhere, and pixels and cells of all tiles count together.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import ExportError
from cellseg.export.judging.quality import versus_fp32
from cellseg.runtime.evaluation.labelled import LabelledImage
from cellseg.runtime.evaluation.quality import Prediction, score_agreement, score_images

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from cellseg.export.images.export_images import ExportImages
    from cellseg.runtime.bundles.bundle import Agreement, ModelCard
    from cellseg.runtime.evaluation.quality import Runner, Score

    Judge = Callable[[Runner], float]
    Progress = Callable[[str, int, int], None]

__all__ = ["AGREEMENT", "NOTHING", "Judging", "Progress", "judges_of", "labelled_by"]

_LOG = logging.getLogger(__name__)
AGREEMENT = "agreement with fp32"
NOTHING = "nothing"
_FEW_CELLS = 100  # one cell more or less is a hundredth: no floor of 0.99 can be told from chance


@dataclass(frozen=True)
class Judging:
    """Images that files are held against, and whose word is their truth."""

    card: ModelCard
    """How outputs are read."""

    datasets: Mapping[str, Sequence[LabelledImage]]
    """By name; none: nothing is measured."""

    by_fp32: bool = False
    """Whether the truth is fp32's own result."""

    lack: str = ""
    """Why what they say proves nothing; empty if it does."""

    progress: Progress | None = None
    """Is told after each image: what goes on, how far it is, and how far it goes."""

    @property
    def words(self) -> str:
        """What decides, for people."""
        if self.lack:
            return f"{NOTHING} ({self.lack})"
        return AGREEMENT if self.by_fp32 else ", ".join(self.datasets)

    @property
    def images(self) -> list[LabelledImage]:
        """All of them."""
        return [item for items in self.datasets.values() for item in items]

    def scores(self, runner: Runner) -> list[Score]:
        """Score a model on labelled images, a score a data set."""
        watched = self._watched(runner)
        return [
            score_images(watched, images, self.card, name) for name, images in self.datasets.items()
        ]

    def agreement(self, runner: Runner) -> Agreement | None:
        """Tell how far a model agrees with fp32; None where fp32 found nothing."""
        return score_agreement(self._watched(runner), self.images, self.card)

    def judge(self, reference: Runner) -> Judge:
        """Return a function that tells what share of fp32 a model keeps, 0..1.

        Parameters
        ----------
        reference : Runner
            fp32.
        """
        if self.by_fp32:
            return self._share_agreed
        known = self.scores(reference)

        def judge(candidate: Runner) -> float:
            fp32 = [item.by(candidate.engine_name) for item in known]
            return versus_fp32(self.scores(candidate), fp32).kept

        return judge

    def _watched(self, runner: Runner) -> Runner:
        if self.progress is None:
            return runner
        return _Watched(runner, self.words, len(self.images), self.progress)

    def _share_agreed(self, candidate: Runner) -> float:
        found = self.agreement(candidate)
        return 1.0 if found is None else found.kept


class _Watched:
    """A runner that tells how many images it has run."""

    def __init__(self, runner: Runner, what: str, images: int, progress: Progress) -> None:
        self._runner, self._what, self._images, self._progress = runner, what, images, progress
        self._done = 0
        self.engine_name = runner.engine_name

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the model, then tell."""
        result = self._runner(image)
        self._done += 1
        self._progress(f"{self._what} ({self.engine_name})", self._done, self._images)
        return result

    def close(self) -> None:
        """Release what the runner holds."""
        self._runner.close()


def judges_of(
    images: ExportImages,
    card: ModelCard,
    fp32: Callable[[], Runner],
    insists: bool = False,
    progress: Progress | None = None,
) -> tuple[Judging, Judging]:
    """Decide what chooses between int8 files, and what is reported of every file.

    Labelled images, where there are any; else tiles that fp32 labels.

    Parameters
    ----------
    images : ExportImages
        Labelled images, and tiles that were held out.
    card : ModelCard
        How outputs are read.
    fp32 : callable
        Opens the float model.
    insists : bool
        Refuse to go on with nothing to measure on.
    progress : callable, optional
        See `Judging`.

    Raises
    ------
    ExportError
        If there are no labelled images, nothing can stand in for them, and somebody insists.
    """
    choosing = Judging(card, images.select, progress=progress)
    reporting = Judging(card, images.evaluate, progress=progress)
    if not images.tiles or (choosing.datasets and reporting.datasets):
        return choosing, reporting
    runner = fp32()
    agreed = labelled_by(runner, images.held_out or images.tiles, card)
    runner.close()
    lack = _lack(agreed, images)
    agreed = replace(agreed, lack=lack, progress=progress)
    if lack and insists and not (choosing.datasets or reporting.datasets):
        raise ExportError(
            "Without labelled images files are held against fp32's own result, and there must be "
            f"one. Received: {lack}.",
            hint="Name images that show what the model finds with --representative, labelled ones "
            "with --test, or leave out --min-quality.",
        )
    _tell(agreed, lack, reports=not reporting.datasets)
    if not reporting.datasets and not lack:
        reporting = agreed
    return choosing if choosing.datasets else agreed, reporting


def _lack(agreed: Judging, images: ExportImages) -> str:
    """Why fp32's result on tiles says nothing; empty if it does."""
    if not images.held_out:
        return f"{len(images.tiles)} tiles of one place, none to hold out"
    if not any(item.classes.any() for item in agreed.images):
        return f"fp32 finds nothing on any of {len(images.held_out)} tiles"
    return ""


def _tell(agreed: Judging, lack: str, reports: bool) -> None:
    """Say what stands in for labels, and how far it carries."""
    if lack and reports:
        _LOG.warning("%s: int8 and fp16 are written without evidence of what they keep", lack)
    if lack or not reports:
        return
    shown = {index for item in agreed.images for index in np.unique(item.classes)}
    cells = sum(int(np.count_nonzero(np.unique(item.labels))) for item in agreed.images)
    _LOG.warning(
        "no labelled images: files are held against fp32's own result on %d tiles held out. That "
        "is agreement with fp32, not quality", len(agreed.images),
    )  # fmt: skip
    absent = [
        item.name for index, item in enumerate(agreed.card.classes) if index and index not in shown
    ]
    if absent:
        _LOG.warning("fp32 finds no %s on these tiles: it is not measured", " or ".join(absent))
    if agreed.images[0].has_cells and cells < _FEW_CELLS:
        _LOG.warning(
            "fp32 finds %d cells on these tiles: one more or less is %.1f %%", cells,
            100 / max(1, cells),
        )  # fmt: skip


def labelled_by(fp32: Runner, tiles: Sequence[NDArray[np.uint8]], card: ModelCard) -> Judging:
    """Take fp32's result on tiles for their labels.

    Parameters
    ----------
    fp32 : Runner
        The float model.
    tiles : sequence of uint8, shape (h, w, 3)
        RGB, at the scale that the network sees.
    card : ModelCard
        How its output is read.

    Raises
    ------
    ExportError
        If there are no tiles.
    """
    if not tiles:
        raise ExportError("Agreement needs tiles. Received: none.")
    spec = card.input.model_copy(update={"fit": "native", "fit_px": None})  # tiles are to scale
    card = card.model_copy(update={"input": spec})
    images = [_labelled(fp32, tile, index, card) for index, tile in enumerate(tiles)]
    return Judging(card, {AGREEMENT: images}, by_fp32=True)


def _labelled(fp32: Runner, tile: NDArray[np.uint8], index: int, card: ModelCard) -> LabelledImage:
    said = Prediction.from_probabilities(fp32(tile), card)
    blank = np.zeros(tile.shape[:2], np.uint32)
    return LabelledImage(
        source=AGREEMENT,
        stem=str(index),
        image=tile,
        labels=blank if said.labels is None else said.labels,
        mask=said.classes,
        has_cells=said.labels is not None,
    )
