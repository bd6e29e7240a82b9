"""What a user may choose about a benchmark."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cellseg.errors import BenchError
from cellseg.runtime.slides.slide import check_mpp

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SCENARIO_NAMES", "BenchOptions"]

SCENARIO_NAMES: Final = ("tile-single", "tile-offline", "slide", "stream", "cold")


@dataclass(frozen=True)
class BenchOptions:
    """The matrix and how long each of its cells is measured. () leaves the choice to us.

    Raises
    ------
    BenchError
        If a value is out of range.
    SlideError
        If ``mpp`` is.
    """

    models: tuple[str, ...] = ("nuclei",)
    """Names of shipped bundles, or paths."""

    engines: tuple[str, ...] = ()
    """Names; ``auto`` is the one that `infer` takes; (): all that work here."""

    precisions: tuple[str, ...] = ()
    """(): all that an engine runs of a bundle."""

    tiles_px: tuple[int, ...] = ()
    """(): the usual tile of the model."""

    batches: tuple[int, ...] = (1,)

    threads: tuple[int, ...] = ()
    """Threads of an engine; (): every core."""

    scenarios: tuple[str, ...] = SCENARIO_NAMES

    slide: Path | None = None
    """Where tiles come from and what is run whole; None: made."""

    mpp: float | None = None
    """Microns per level-0 pixel of the slide; overrides what the file says."""

    accuracy_sets: dict[str, Path] = field(default_factory=dict)
    """Name to folder of labelled images; {}: what the bundles state."""

    min_duration_s: float = 10.0
    """Of each contestant, all rounds together."""

    min_samples: int = 29
    """Of each contestant, all rounds together; slides and cold starts have one a round at least."""

    rounds: int = 5

    roofline: bool = True
    """Measure the machine's matrix products, too: half a minute."""

    fps: float = 5.0
    frame_wh: tuple[int, int] = (1024, 1024)

    timeout_s: float = 3600.0
    """After which a process is ended and its contestant counted as failed."""

    def __post_init__(self) -> None:
        positive = {
            "rounds": (self.rounds,),
            "batch": self.batches,
            "threads": self.threads,
            "tile": self.tiles_px,
            "fps": (self.fps,),
            "frame": self.frame_wh,
            "timeout": (self.timeout_s,),
        }
        for name, values in positive.items():
            for value in values:
                if not (math.isfinite(value) and value > 0):
                    raise BenchError(f"{name} must be above 0. Received: {name}={value}.")
        if self.mpp is not None:
            check_mpp(self.mpp)
        if not (0 <= self.min_duration_s < math.inf and self.min_samples >= 0):
            raise BenchError(
                "Least duration and samples are numbers from 0 on. Received: "
                f"min_duration={self.min_duration_s}, min_samples={self.min_samples}."
            )
        unknown = [name for name in self.scenarios if name not in SCENARIO_NAMES]
        if unknown:
            raise BenchError(
                f"Scenarios are {', '.join(SCENARIO_NAMES)}. Received: {', '.join(unknown)}."
            )
