"""What every contestant's driver shares: one request in, one line of JSON out.

A driver is run as ``python DRIVER.py '{"slide": ..., ...}'`` by the interpreter of the environment
that its package is installed in, so nothing here but the standard library. Work is timed from the
slide's path to the finished class map on disk, opening of the network included, import of packages
not: a server that is started once does not import for each slide.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Request:
    """One run of one contestant."""

    slide: str
    """8-bit RGB pyramidal TIFF; its level 0 is the working level."""

    model: str
    """Network file in the form that this contestant takes."""

    out: str
    """Path without suffix for the class map."""

    threads: int
    """Cores the contestant may use."""

    patch_px: int
    """Side of what the network sees at a time."""

    overlap: float
    """Part of a patch that its neighbour sees, too."""

    precision: str
    """Of the network; only where the contestant chooses it from one file."""

    halo_px: int
    """Margin that the network's measured reach needs; multiple of its stride."""

    stride_px: int
    """What both sides of the network's input must be multiples of."""


def room(extent: int, request: Request) -> int:
    """Pixels to add to an extent so that the network's stride divides it."""
    return -extent % request.stride_px


def serve(run: Callable[[Request], str]) -> None:
    """Do the work of the command line and print how long it took; ``run`` names its result."""
    request = Request(**json.loads(sys.argv[1]))
    started = time.perf_counter()
    result = run(request)
    seconds = time.perf_counter() - started
    print(json.dumps({"work_s": seconds, "result": os.fspath(result)}), flush=True)
