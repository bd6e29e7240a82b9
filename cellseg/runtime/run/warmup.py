"""Getting ready beside the engine: while its model is compiled, a core has nothing to do.

numba and its kernels take half a second to load. Loaded when the first tile comes out of the
network, they make all others wait: nothing takes the next result. What is read before that does
without them (`cellseg.runtime.kernels.LOADED`).
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels import LOADED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellseg.runtime.jobs.job import Job

__all__ = ["load_class_rule", "warming"]

_LOG = logging.getLogger(__name__)


@contextmanager
def warming(job: Job) -> Iterator[None]:
    """Load what a job's first tile will need, in a thread, while something else is done.

    What goes wrong here goes wrong again, and is told, when the first tile needs it.
    """
    with ThreadPoolExecutor(1, "cellseg-warm-up") as pool:
        pool.submit(_warm, job)
        yield


def load_class_rule(job: Job) -> None:
    """Load what decides a pixel's class; where nothing was kept of it, say that all is compiled.

    A first run takes longer than the next, and its speed says nothing about that one.
    """
    from cellseg.runtime.kernels.stitch import decide_by_argmax, decide_by_threshold

    job.rule.classes(
        np.zeros((1, 1, len(job.bundle.manifest.channels)), np.float32), (0, 0), (1, 1)
    )
    for kernel in (decide_by_argmax, decide_by_threshold):
        if kernel.stats.cache_path and kernel.stats.cache_misses:
            _tell_first_run()


@cache
def _tell_first_run() -> None:
    """Say it once: of a folder of images the first alone waits for the compiler."""
    _LOG.info("first run here: kernels are compiled for this processor, and kept")


def _warm(job: Job) -> None:
    from cellseg.runtime.cells.parting import interior_steps
    from cellseg.runtime.kernels.lookup import look_up

    load_class_rule(job)
    card = job.bundle.manifest
    if "interior" in job.planes and card.head.instances is not None:
        channels = np.zeros((1, 1, len(card.channels)), np.float32)
        interior_steps(channels, card.head.instances)
    for dtype in (np.uint8, np.uint16):  # what 16 bits become, and pairs of bytes
        look_up(np.zeros(1, np.uint16), np.zeros(1, dtype), np.zeros(1, dtype))
    LOADED.set()
