"""The benchmark report as it is stored: JSON, schema ``cellseg.bench/1``.

::

    Report ── machine (fingerprint), models, peaks, settings
      └── Row: one contestant ── estimates with intervals, accuracy, energy, roofline
            └── Round: one process ── raw samples and the state of the machine around them

A number that was not measured is null, never 0. Unknown keys are refused, so that a reader of one
version never takes another's numbers for its own; `load_report` says so in words.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cellseg.errors import BenchError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "SCHEMA",
    "Accuracy",
    "Contestant",
    "Energy",
    "Estimate",
    "Latency",
    "MachineState",
    "ModelFacts",
    "Peak",
    "Report",
    "Roofline",
    "Round",
    "Row",
    "Stream",
    "load_report",
    "report_schema",
]

SCHEMA = "cellseg.bench/1"
Scenario = Literal["tile-single", "tile-offline", "slide", "stream", "cold"]
Status = Literal["done", "failed", "unavailable", "interrupted"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Estimate(_Part):
    """A number with its 95 % interval."""

    value: float
    low: float | None = None
    """Lower end; null where one round alone cannot tell."""
    high: float | None = None


class Latency(_Part):
    """How long one query took, milliseconds, over all rounds."""

    samples: int
    mean: float
    p50: Estimate | None
    """Median; null with fewer than 5 samples."""
    p90: Estimate | None
    """Null with fewer than 29 samples: the slowest would not bound it at 95 %."""
    p99: Estimate | None
    """Null with fewer than 299 samples."""
    slowest: float
    outliers: int
    """Samples past the upper quartile by three times the interquartile range; none is left out."""


class Energy(_Part):
    """What the meters of the machine counted while it ran."""

    source: str
    """``rapl``, ``nvml`` or ``ina3221``; several joined by ``+``."""
    joule: float
    watt: float
    joule_net: float | None
    """Less what the idle machine takes in the same time."""
    joule_per_mpx: float
    joule_per_mm2: float | None
    """Null where the model has no pixel size."""


class Peak(_Part):
    """The fastest matrix product that a library reached on this machine."""

    gflop_s: float
    by: str


class Roofline(_Part):
    """How near the limit of the machine."""

    gflop_per_mpx: float
    """What the network computes for a million pixels; a multiplication and an addition are two."""
    gflop_s: float
    """Computed in the time that was taken, halos included."""
    peak_gflop_s: float | None
    """The measured matrix product at this precision."""
    of_peak: float | None


class Accuracy(_Part):
    """Quality on labelled images."""

    dataset: str
    images: int
    dice: dict[str, float]
    object_f1: float | None
    count_error: float | None
    origin: Literal["measured", "bundle"]
    """``measured`` in this run by this engine, or what the ``bundle`` states."""
    engine: str | None
    """Engine that computed it."""


class Stream(_Part):
    """Frames that came at a fixed rate."""

    fps: float
    frame_hw: tuple[int, int]
    offered: int
    processed: int
    dropped: int
    """Frames that were passed over, a newer one being there."""
    late: int
    """Frames whose result came after the next frame."""
    misses: int
    """Dropped or late."""
    miss_rate: Estimate


class MachineState(_Part):
    """What happened to the machine during a round."""

    clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle_events: int | None = None
    slept_s: float | None = None
    """Time asleep (suspended)."""
    stolen_share: float | None = None
    """Part of the cores' time that the hypervisor gave to others."""
    others_share: float | None = None
    """Part of the cores' time that other programs used."""


class Round(_Part):
    """One process of one contestant."""

    turn: int
    """Round, from 0; contestants take turns."""
    place: int = 0
    """Place in that round's order."""
    seconds: float
    """Length of the measured part."""
    samples_ms: tuple[float, ...]
    kept_px: float
    """Pixels of results, halos not counted."""
    computed_px: float
    """Pixels that the network ran on."""
    warmup_calls: int = 0
    warmup_s: float = 0.0
    mpp: float | None = None
    """Microns a pixel of results."""
    tile_px: int | None = None
    threads: int | None = None
    device: str | None = None
    state: MachineState = MachineState()
    joule: dict[str, float] = Field(default_factory=dict)
    """By meter."""
    peak_rss_mb: float | None = None
    device_memory_mb: float | None = None
    parts_s: dict[str, float] = Field(default_factory=dict)
    """Busy seconds of stages (slide), or the steps of a start (cold)."""
    stream: Stream | None = None


class Contestant(_Part):
    """One cell of the matrix."""

    scenario: Scenario
    model: str
    engine: str
    precision: str
    tile_px: int
    batch: int
    """Tiles of one query (tile-single), in flight (tile-offline) or kept ready (slide)."""
    threads: int | None
    """Threads of the engine; null: every core."""

    @property
    def key(self) -> str:
        """Name in reports and in comparisons."""
        threads = "all" if self.threads is None else self.threads
        return (
            f"{self.scenario}/{self.model}/{self.engine}/{self.precision}"
            f"/tile{self.tile_px}/batch{self.batch}/threads-{threads}"
        )


class Row(_Part):
    """A contestant with what was measured."""

    key: str
    contestant: Contestant
    status: Status
    failure: str | None = None
    valid: bool = True
    invalid_reasons: tuple[str, ...] = ()
    latency_ms: Latency | None = None
    throughput_mpx_s: Estimate | None = None
    """Millions of result pixels a second."""
    mm2_per_s: float | None = None
    peak_rss_mb: float | None = None
    """Largest resident memory of the process, MiB."""
    device_memory_mb: float | None = None
    energy: Energy | None = None
    roofline: Roofline | None = None
    accuracy: tuple[Accuracy, ...] = ()
    stages_s: dict[str, float] = Field(default_factory=dict)
    """Medians over the rounds."""
    first_use_s: dict[str, float] | None = None
    """Scenario cold: the very first start, caches empty, kernels compiled and engines built."""
    stream: Stream | None = None
    rounds: tuple[Round, ...] = ()

    def percentile(self, name: str) -> Estimate | None:
        """Return ``p50``, ``p90`` or ``p99`` of the latency, ms; None if it is not known."""
        found: Estimate | None = getattr(self.latency_ms, name, None)
        return found

    @property
    def of_peak(self) -> float | None:
        """Share of the machine's peak."""
        return None if self.roofline is None else self.roofline.of_peak

    @property
    def joule_per_mm2(self) -> float | None:
        """Energy of a square millimetre."""
        return None if self.energy is None else self.energy.joule_per_mm2


class ModelFacts(_Part):
    """A bundle of the matrix."""

    name: str
    version: str
    sha256: str
    variants: dict[str, str]
    """File to sha256."""
    mpp: float | None
    halo_px: int
    gflop_per_mpx: float | None


class Report(_Part):
    """One run of ``cellseg-cli bench``."""

    schema_id: Literal["cellseg.bench/1"] = Field(default="cellseg.bench/1", alias="schema")
    status: Literal["done", "interrupted"]
    valid: bool
    invalid_reasons: tuple[str, ...]
    started: str
    """UTC, ISO 8601."""
    wall_s: float
    command: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    """Fingerprint: see `cellseg.bench.meters.fingerprint`."""
    models: dict[str, ModelFacts]
    peaks: dict[str, Peak | None]
    """By precision."""
    idle_w: dict[str, float]
    """Power of the idle machine before the run, by meter."""
    rows: tuple[Row, ...]

    model_config = ConfigDict(populate_by_name=True)

    def to_json(self) -> str:
        """Return the JSON text of the file."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def load_report(path: Path) -> Report:
    """Read a report; a folder stands for the ``bench.json`` in it.

    Raises
    ------
    BenchError
        If there is none, or it is of another schema.
    """
    file = path / "bench.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(
            f"A benchmark report must be a JSON file that can be read. Received: {file} ({error}).",
            hint="Make one with: cellseg-cli bench -o FOLDER",
        ) from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise BenchError(
            f"Reports must have the schema {SCHEMA}. Received: schema={schema!r} in {file}.",
            hint="Measure again with this version, or read it with the version that wrote it.",
        )
    try:
        return Report.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BenchError(
            f"A report must keep to its schema. Received: {file}, {where}: {first['msg']}.",
            hint="The file was changed after it was written; measure again.",
        ) from error


def report_schema() -> str:
    """Return the JSON Schema of reports, as kept in ``docs/schema/bench.schema.json``."""
    from cellseg.json_schema import schema_text

    return schema_text(Report)
