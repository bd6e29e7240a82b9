"""A run whose tiles are all done: what writers take their pixels from."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from cellseg.runtime.labels import windows
from cellseg.runtime.overview import ClassSurvey, halvings_to_fit
from cellseg.runtime.writers.table import OVERVIEW_LONGEST_PX

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellseg.runtime.job import Job
    from cellseg.runtime.labels import LabelSource
    from cellseg.runtime.measured import MeasuredSource
    from cellseg.runtime.options import InferOptions

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
        """Counts and overview of the class map; takes a pass of its own if none went before."""
        if self._survey is None:
            survey = self.begin_survey()
            for window in windows(self.classes.hw, _SURVEY_PX):
                survey.see(window[0], window[1], self.classes.read(*window))
            return survey
        return self._survey

    def begin_survey(self) -> ClassSurvey:
        """Return an empty survey, for a writer that shows it every window of the class map."""
        hw = self.job.view.hw
        halvings = halvings_to_fit(hw, OVERVIEW_LONGEST_PX)
        self._survey = ClassSurvey(hw, len(self.job.class_names), halvings)
        return self._survey
