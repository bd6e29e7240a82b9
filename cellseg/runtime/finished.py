"""A run whose tiles are all done: what writers take their pixels from."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from cellseg.runtime.labels import StoredPlane, windows
from cellseg.runtime.overview import ClassSurvey, halvings_to_fit

if TYPE_CHECKING:
    from cellseg.runtime.job import Job
    from cellseg.runtime.labels import LabelSource
    from cellseg.runtime.options import InferOptions
    from cellseg.runtime.slide_cells import SlideCells
    from cellseg.runtime.store import ResultStore

__all__ = ["OVERVIEW_LONGEST_PX", "FinishedRun"]

OVERVIEW_LONGEST_PX = 4096
_SURVEY_PX = 512


class FinishedRun:
    """Tiles, cells and counts of a run; pixels are read window by window.

    Parameters
    ----------
    job : Job
        What was run.
    store : ResultStore
        Holds all tiles; stays open and in the caller's hands.
    options : InferOptions
        How files are to be written.
    cells : SlideCells, optional
        None where cells were not told apart.
    """

    def __init__(
        self, job: Job, store: ResultStore, options: InferOptions, cells: SlideCells | None = None
    ) -> None:
        self.job, self.store, self.options, self.cells = job, store, options, cells
        self._survey: ClassSurvey | None = None

    @cached_property
    def classes(self) -> LabelSource:
        """Class map, uint8."""
        return StoredPlane(self.job.plan, self.store, "classes")

    @cached_property
    def probability(self) -> LabelSource:
        """Probability of foreground, uint8: 255 is certain."""
        return StoredPlane(self.job.plan, self.store, "probability")

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
