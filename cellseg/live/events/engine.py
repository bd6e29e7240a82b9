"""Looks at every result, and tells when a rule holds."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellseg.live.events.rules import check_rules
from cellseg.live.events.webhook import Webhook
from cellseg.live.listeners import Listeners

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cellseg.live.events.rules import Rule
    from cellseg.live.result import FrameResult

__all__ = ["EventEngine", "LiveEvent", "SeenCell"]

_MOST_CELLS_TOLD = 100


@dataclass(frozen=True)
class SeenCell:
    """A cell that a rule was about."""

    id: int
    """Number in its frame's label map."""

    class_name: str
    """Its class."""

    x_px: float
    """Centroid in pixels of the frame."""

    y_px: float
    """Centroid in pixels of the frame."""

    xy_um: tuple[float, float] | None
    """Centroid where the stage is; None without stage or pixel size."""

    area_um2: float | None
    """Area; None where the pixel size is not known."""


@dataclass(frozen=True)
class LiveEvent:
    """A rule that held for a frame."""

    rule: Rule
    """Which."""

    result: FrameResult
    """For which frame."""

    cells: tuple[SeenCell, ...]
    """For which of its cells, up to 100 of them; none where the rule is about the frame."""

    cell_count: int
    """For how many of its cells."""

    values: dict[str, float]
    """What the frame's and the run's names in the rule stood for."""

    unix_s: float
    """When, in seconds since 1970."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        meta = self.result.meta
        return {
            "event": "rule",
            "rule": self.rule.name,
            "when": self.rule.when.source,
            "unix_s": round(self.unix_s, 3),
            "frame": meta.frame_id,
            "stage_xyz_um": meta.stage_xyz_um,
            "values": {name: _known(value) for name, value in self.values.items()},
            "cell_count": self.cell_count,
            "cells": [_cell_dict(cell) for cell in self.cells],
        }


class EventEngine:
    """Evaluates rules; listeners and webhooks are told of those that hold.

    Parameters
    ----------
    rules : sequence of Rule
        Any number.
    class_names : sequence of str
        Classes whose cells are counted.
    mpp : float, optional
        Microns per pixel of the frames.

    Attributes
    ----------
    fired : dict of str to int
        How often each rule has.

    Raises
    ------
    RuleError
        If a rule names a class that is not among them, or could never fire: `check_rules`.
    """

    def __init__(
        self, rules: Sequence[Rule], class_names: Sequence[str], mpp: float | None = None
    ) -> None:
        check_rules(rules, class_names, mpp)
        self._rules, self._class_names, self._mpp = tuple(rules), tuple(class_names), mpp
        self.fired = {rule.name: 0 for rule in rules}
        self._held = dict.fromkeys(self._rules, False)
        self._totals: Counter[str] = Counter()
        self._frames = 0
        self._listeners = Listeners("events")
        self._webhook = Webhook()

    def on_event(self, callback: Callable[[LiveEvent], Any]) -> Callable[[], None]:
        """Call back with every event; return what ends that."""
        return self._listeners.add(callback)

    def see(self, result: FrameResult) -> None:
        """Look at a result; made to be given to ``LiveSession.on_result``."""
        self._frames += 1
        self._totals.update(result.counts)
        values = self._values(result)
        for rule in self._rules:
            self._judge(rule, result, values)

    def close(self) -> None:
        """Send what waits to be sent, for a moment, and end."""
        self._webhook.close()

    def _judge(self, rule: Rule, result: FrameResult, values: dict[str, Any]) -> None:
        cells, count = self._matching(rule, result, values)
        holds = count > 0 if rule.when.is_of_cells else bool(rule.when.value(values))
        held, self._held[rule] = self._held[rule], holds
        if not holds or (rule.once and held):
            return
        self.fired[rule.name] += 1
        used = sorted(rule.when.names | rule.when.calls)
        shown = {name: values[name] for name in used if name in values}
        event = LiveEvent(rule, result, cells, count, shown, time.time())
        if rule.webhook is not None:
            self._webhook.post(rule.webhook, event.as_dict())
        self._listeners(event)

    def _values(self, result: FrameResult) -> dict[str, Any]:
        place = result.meta.stage_xyz_um or (float("nan"),) * 3
        named: dict[str, Any] = {
            "cells": sum(result.counts.values()),
            "focus": result.focus,
            "latency_ms": result.latency.total_ms,
            "frames": self._frames,
            "total": sum(self._totals.values()),
        }
        named |= dict(zip(("x_um", "y_um", "z_um"), place, strict=True))
        named |= {f"count:{name}": result.counts.get(name, 0) for name in self._class_names}
        return named | {f"total:{name}": self._totals[name] for name in self._class_names}

    def _matching(
        self, rule: Rule, result: FrameResult, values: dict[str, Any]
    ) -> tuple[tuple[SeenCell, ...], int]:
        if not rule.when.is_of_cells or result.cells is None:
            return (), 0
        found = [row for row in result.cells if rule.when.value(values | self._cell_values(row))]
        return tuple(self._seen(row, result) for row in found[:_MOST_CELLS_TOLD]), len(found)

    def _cell_values(self, row: Any) -> dict[str, Any]:
        named = {name: float(row[name]) for name in ("area_px", "area_um2", "x_px", "y_px")}
        return {**named, "class": self._class_of(row)}

    def _class_of(self, row: Any) -> str:
        return self._class_names[int(row["class_index"]) - 1]

    def _seen(self, row: Any, result: FrameResult) -> SeenCell:
        x_px, y_px = float(row["x_px"]), float(row["y_px"])
        stage, area = result.meta.stage_xyz_um, float(row["area_um2"])
        xy_um = None
        if stage is not None and self._mpp is not None:
            xy_um = (stage[0] + x_px * self._mpp, stage[1] + y_px * self._mpp)
        known_area = area if area == area else None  # nan where it is not known
        return SeenCell(int(row["id"]), self._class_of(row), x_px, y_px, xy_um, known_area)


def _known(value: float) -> float | None:
    """Return a number that JSON has; a frame without a stage has no place."""
    return value if math.isfinite(value) else None


def _cell_dict(cell: SeenCell) -> dict[str, Any]:
    return {
        "id": cell.id,
        "class": cell.class_name,
        "x_px": round(cell.x_px, 2),
        "y_px": round(cell.y_px, 2),
        "xy_um": cell.xy_um and [round(axis, 3) for axis in cell.xy_um],
        "area_um2": cell.area_um2 and round(cell.area_um2, 3),
    }
