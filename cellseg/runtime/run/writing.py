"""Writing the files of a run: those made from cells beside those made from classes.

Either kind has a reading order and caches of its own, and one writer alone keeps one core busy. The
picture of the slide is drawn by a thread of its own, as soon as the class map's full resolution has
been seen: while the smaller levels of its pyramid are written.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event
from typing import TYPE_CHECKING, Any

from cellseg.runtime.machine.facts import usable_cores
from cellseg.runtime.writers.atomic import PARTIAL_PREFIX, replacing
from cellseg.runtime.writers.facts import remove_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cellseg.runtime.jobs.outputs import Output
    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["write_outputs"]


def write_outputs(
    folder: Path, run: FinishedRun, outputs: Iterable[Output], *, at_once: bool = False
) -> None:
    """Write some outputs of a run, each under another name until it is complete.

    Parameters
    ----------
    folder : Path
        Where they go; held.
    run : FinishedRun
        What they are made from; its sources may be read by several threads.
    outputs : iterable of Output
        In this order.
    at_once : bool
        Make each that needs cells beside the others, and read the slide's overview beside them.

    Raises
    ------
    StoreError
        If the disk is full or cannot be written.
    """
    for left in folder.glob(f"{PARTIAL_PREFIX}*"):  # by a run that was killed; the folder is held
        remove_output(left)
    outputs = list(outputs)
    of_cells = [output for output in outputs if output.needs == "cells"]
    others = [output for output in outputs if output.needs != "cells"]
    if not at_once:
        _write(folder, run, outputs)
        return
    pictures = [output for output in others if output.shows_slide]
    others = [output for output in others if not output.shows_slide]
    stopped = Event()
    with (
        ThreadPoolExecutor(max(2, usable_cores())) as pool,
        ThreadPoolExecutor(1) as painter,  # waits for the survey, in nobody's place
    ):
        if pictures:
            run.begin_picture(pool)
        if any(output.surveys for output in others):
            run.begin_survey()
        stoppable = run.with_cells(lambda source: _Until(source, stopped))
        beside = [pool.submit(_write, folder, stoppable, [output]) for output in of_cells]
        beside.append(painter.submit(_write, folder, run, pictures))
        try:
            _write(folder, run, others)
            for written in as_completed(beside):
                written.result()
        except BaseException:
            stopped.set()
            run.give_up()
            raise


def _write(folder: Path, run: FinishedRun, outputs: Iterable[Output]) -> None:
    for output in outputs:
        with replacing(folder / output.file) as target:
            output.load()(target, run)


class _StoppedError(Exception):
    """Another writer failed, or the user stopped the run."""


class _Until:
    """A source of cells that is closed by an event."""

    def __init__(self, source: Any, stopped: Event) -> None:
        self._source, self._stopped = source, stopped

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, *window: int) -> Any:
        self._check()
        return self._source.read(*window)

    def batches(self) -> Iterator[Any]:
        for batch in self._source.batches():
            self._check()
            yield batch

    def _check(self) -> None:
        if self._stopped.is_set():
            raise _StoppedError
