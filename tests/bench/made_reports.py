"""Reports that were never measured: what tests of pages and comparisons look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.bench.record import Accuracy, Contestant, MachineState, Peak, Report, Round, Stream
from cellseg.bench.reports.rows import Basis, doubts_of_run, make_row

if TYPE_CHECKING:
    from cellseg.bench.record import Row

MACHINE: dict[str, Any] = {
    "system": "Linux 6", "architecture": "x86_64", "cpu": "Some CPU", "cpu_flags": ["avx2"],
    "cores": 4, "gpus": [], "cellseg": "0.1.0", "libraries": {"numpy": "2"},
}  # fmt: skip
SCENARIOS = ("tile-single", "tile-offline", "slide", "stream", "cold")


def made_round(scenario: str, times_ms: list[float], turn: int, **changes: Any) -> Round:
    """Return a round of these latencies; a megapixel each."""
    seconds = sum(times_ms) / 1e3
    fields: dict[str, Any] = {
        "turn": turn,
        "seconds": seconds,
        "samples_ms": tuple(times_ms),
        "kept_px": 1e6 * len(times_ms),
        "computed_px": 1.5e6 * len(times_ms),
        "mpp": 0.5,
        "peak_rss_mb": 200.0,
        "state": MachineState(clock_mhz=3000.0, throttle_events=0, slept_s=0.0),
    }
    if scenario == "slide":
        fields["parts_s"] = {"read": 0.1, "infer": 2.0, "stitch": 0.2, "write": 0.3, "wall": 1.5}
    if scenario == "cold":
        fields["parts_s"] = {"imports": 0.3, "engine": 0.5, "first_result": 0.2}
    if scenario == "stream":
        fields["stream"] = Stream(
            fps=10, frame_hw=(64, 64), offered=20, processed=18, dropped=2, late=1, misses=3,
            miss_rate={"value": 0.15},
        )  # fmt: skip
    return Round(**fields | changes)


def made_row(
    scenario: str = "tile-single",
    engine: str = "openvino",
    precision: str = "fp32",
    times_ms: Any = 100.0,
    rounds: int = 5,
    samples: int = 70,
    seed: int = 0,
    **changes: Any,
) -> Row:
    """Return a row whose latencies scatter by a hundredth around ``times_ms``."""
    rng = np.random.default_rng(seed)
    who = Contestant(
        scenario=scenario, model="nuclei", engine=engine, precision=precision, tile_px=1024,
        batch=1, threads=None,
    )  # fmt: skip
    measured = [
        made_round(scenario, list(times_ms * rng.normal(1, 0.01, samples)), turn, **changes)
        for turn in range(rounds)
    ]
    scored = Accuracy(
        dataset="test", images=10, dice={"nucleus": 0.9}, object_f1=0.8, count_error=0.1,
        origin="measured", engine=engine,
    )  # fmt: skip
    return make_row(
        who, "done", measured, Basis(19.7, Peak(gflop_s=300, by="numpy"), {}, (scored,))
    )


def made_report(*rows: Row, **changes: Any) -> Report:
    """Return a report of rows; by default one of each scenario by two contestants."""
    chosen = rows or tuple(
        made_row(scenario, precision=precision, times_ms=speed)
        for scenario in SCENARIOS
        for precision, speed in (("fp32", 100.0), ("int8", 60.0))
    )
    reasons = doubts_of_run(chosen)
    fields: dict[str, Any] = {
        "status": "done", "valid": not reasons, "invalid_reasons": tuple(reasons),
        "started": "2026-01-01T00:00:00+00:00", "wall_s": 60.0, "command": "cellseg-cli bench",
        "settings": {"rounds": 5, "slide": "made"}, "machine": MACHINE, "models": {}, "idle_w": {},
        "peaks": {"fp32": Peak(gflop_s=300, by="numpy"), "bf16": None}, "rows": chosen,
    }  # fmt: skip
    return Report(**fields | changes)
