"""Cells as a table of what each channel of the file holds in them, beside ``cells.parquet``."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.cells.intensities import cell_intensities
from cellseg.runtime.machine.facts import usable_cores
from cellseg.runtime.slides.channels import RGB_NAMES, chosen_channel
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.source_tiles import source_of
from cellseg.runtime.writers.cells_csv import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.cells.intensities import Intensity
    from cellseg.runtime.slides.channels import Channel
    from cellseg.runtime.slides.slide import Slide
    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["write_channels_csv"]

_LOG = logging.getLogger(__name__)
_ROWS = 1 << 16


def write_channels_csv(path: Path, run: FinishedRun) -> None:
    """Write mean and standard deviation of each channel in each cell, a row a cell.

    Of a slide that was opened for one channel all channels are measured, one after the other; of
    any other one red, green and blue.
    """
    slide = run.job.slide
    chosen = chosen_channel(slide)
    if chosen is None:
        names = list(RGB_NAMES)
        found = _measured(run, slide, planes=len(RGB_NAMES))
    else:
        names = _titles(chosen.names)
        found = [_of_channel(run, chosen, number) for number in range(1, len(names) + 1)]
    _write(path, names, found)


def _of_channel(run: FinishedRun, chosen: Channel, number: int) -> Intensity:
    slide = run.job.slide
    if number == chosen.number:
        return _measured(run, slide)[0]
    with closing(open_slide(slide.path, channel=number)) as other:
        read, source = source_of(slide), source_of(other)
        if source is not None and read is not None:
            source.take_over(read)
        found = _measured(run, other)[0]
        for tile in [] if source is None else source.damaged():
            _LOG.warning("channel %d: taken for background: %s", number, tile)
    return found


def _measured(run: FinishedRun, slide: Slide, planes: int = 1) -> list[Intensity]:
    assert run.cells is not None  # or the output had been left out
    # Each window that waits takes memory, which a budget has not counted.
    threads = usable_cores() if run.options.max_ram_bytes is None else 1
    return cell_intensities(run.cells, len(run.measured), slide, run.job.view, planes, threads)


def _titles(names: Sequence[str | None]) -> list[str]:
    """Return a name for each channel, no two alike."""
    told = [name or f"channel_{number}" for number, name in enumerate(names, 1)]
    while len(set(told)) < len(told):  # a name with its number may be another's
        told = [
            name if told.count(name) == 1 else f"{name}_{number}"
            for number, name in enumerate(told, 1)
        ]
    return told


def _write(path: Path, names: Sequence[str], found: Sequence[Intensity]) -> None:
    titles = [f"{kind}_{name}" for name in names for kind in ("mean", "std")]
    columns = [values for each in found for values in (each.mean, each.std)]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(["id", *map(quoted, titles)]) + "\n")
        for start in range(0, len(columns[0]), _ROWS):
            texts = [_texts(values[start : start + _ROWS]) for values in columns]
            rows = zip(*texts, strict=True)
            file.writelines(
                f"{number},{','.join(row)}\n" for number, row in enumerate(rows, start + 1)
            )


def _texts(values: NDArray[np.float32]) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.2f}" for value in values.tolist()]
