"""What contestants that take turns have in common: their tallies, the machine, records in JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.bench.rounds.process import Finish


@dataclass
class Tally:
    """All rounds of one contestant."""

    seconds: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    """Processor time of the whole process, imports included."""
    peak_rss_mb: list[float] = field(default_factory=list)

    def add(self, finish: Finish) -> None:
        """Count a round."""
        self.seconds.append(float(finish.said.get("work_s", finish.wall_s)))
        self.wall_s.append(finish.wall_s)
        self.cpu_s.append(finish.cpu_s)
        self.peak_rss_mb.append(finish.peak_rss_mb)


def spread(values: list[float], digits: int = 2) -> str:
    """Format the median with the smallest and the largest value behind."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def machine_words() -> str:
    """Name the machine in one line."""
    from cellseg.runtime.machine.facts import this_machine

    return words_of_machine(asdict(this_machine()))


def words_of_machine(facts: dict[str, Any]) -> str:
    """Name the machine of a record in one line."""
    flags = " ".join(facts["cpu_flags"] or ())
    return f"{facts['cpu']} ({flags}), {facts['cores']} cores, {facts['system']}"


def save_record(path: Path, record: dict[str, Any]) -> None:
    """Write a measurement as JSON, the machine beside it."""
    from cellseg.runtime.machine.facts import this_machine

    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": asdict(this_machine()), **record}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
