"""A run whose tiles are all done: what writers take their pixels from."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from cellseg.runtime.jobs.outputs import OVERVIEW_LONGEST_PX
from cellseg.runtime.pictures.overview import ClassSurvey, halvings_to_fit, read_overview
from cellseg.runtime.store.labels import windows

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    import numpy as np
    from numpy.typing import NDArray

    from cellseg.runtime.cells.measured import MeasuredSource
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.store.labels import LabelSource

    PictureRows = Callable[[int, int], NDArray[np.uint8]]

__all__ = ["FinishedRun"]

_SURVEY_PX = 512


class FinishedRun:
    """What was run and what came out; pixels are read window by window.

    Parameters
    ----------
    job : Job
        What was run.
    options : InferOptions
        How files are to be written.
    classes : LabelSource
        Class map, uint8.
    cells : LabelSource, optional
        Number of the cell at every pixel; None where cells were not told apart.
    probability : LabelSource, optional
        Probability of foreground, uint8: 255 is certain; None where no output needs it.
    measured : MeasuredSource, optional
        The cells themselves; None as for ``cells``.

    Notes
    -----
    The sources are the caller's: of a run that has just ended they read its store, later they read
    the files in its folder.
    """

    def __init__(
        self,
        job: Job,
        options: InferOptions,
        classes: LabelSource,
        cells: LabelSource | None = None,
        probability: LabelSource | None = None,
        measured: MeasuredSource | None = None,
    ) -> None:
        self.job, self.options = job, options
        self.classes, self.cells, self._probability = classes, cells, probability
        self._measured = measured
        self._survey: ClassSurvey | None = None
        self._picture: Future[NDArray[np.uint8]] | None = None

    @property
    def probability(self) -> LabelSource:
        """Probability of foreground, for an output whose entry says that it needs it."""
        assert self._probability is not None
        return self._probability

    @property
    def measured(self) -> MeasuredSource:
        """Cells with their measurements, for an output whose entry says that it needs cells."""
        assert self._measured is not None
        return self._measured

    def with_cells(self, wrap: Callable[[Any], Any]) -> FinishedRun:
        """Return the same run with its sources of cells wrapped."""
        other = copy(self)
        other.cells, other._measured = wrap(self.cells), wrap(self._measured)
        return other

    @property
    def survey(self) -> ClassSurvey:
        """Counts and overview of the class map, all of it seen.

        Waits for the writer that makes it on its way; takes a pass of its own if there is none.
        """
        if self._survey is None:
            survey = self.begin_survey()
            for window in windows(self.classes.hw, _SURVEY_PX):
                survey.see(window[0], window[1], self.classes.read(*window))
            return survey
        self._survey.wait()
        return self._survey

    def begin_survey(self) -> ClassSurvey:
        """Return the survey to fill, for a writer that shows it every window of the class map."""
        if self._survey is None or self._survey.is_whole:
            self._survey = ClassSurvey(self.job.view.hw, len(self.job.class_names), self.halvings)
        return self._survey

    def give_up(self) -> None:
        """Let no writer wait for another one: one of them failed."""
        if self._survey is not None:
            self._survey.give_up()

    @property
    def halvings(self) -> int:
        """How often the overview is halved."""
        return halvings_to_fit(self.job.view.hw, OVERVIEW_LONGEST_PX)

    def begin_picture(self, pool: Executor) -> None:
        """Let another thread read the slide's overview while other files are written."""
        self._picture = pool.submit(self._read_picture)

    def picture_rows(self) -> PictureRows:
        """Return what gives rows of the slide's overview, of the survey's size; not kept.

        Called with the first row and the one after the last; uint8 (h, w, 3), not to be written
        into. Several threads may call it.
        """
        begun, self._picture = self._picture, None
        if begun is None:
            return lambda start, stop: self._read_picture((start, stop))
        picture = begun.result()
        return lambda start, stop: picture[start:stop]

    def _read_picture(self, rows: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        return read_overview(self.job.shown, self.halvings, rows)
