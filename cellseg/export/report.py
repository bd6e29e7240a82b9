"""What an export tells."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellseg.export.checks.parity import Parity
    from cellseg.export.checks.receptive_field import ReceptiveField
    from cellseg.export.judging.int8 import Int8Choice
    from cellseg.export.targets.tensorrt import EngineFile
    from cellseg.runtime.bundles.bundle import Bundle

__all__ = ["ExportReport"]


@dataclass(frozen=True)
class ExportReport:
    """What was made, and what was measured on the way."""

    bundle: Bundle
    """The bundle that was written."""

    parity: Parity
    """Keras against the fp32 graph."""

    receptive_field: ReceptiveField
    """Reach measured, and bound by structure."""

    choices: tuple[Int8Choice, ...] = ()
    """For each int8 file: range methods tried, the chosen one, and what was given back."""

    representative_tiles: int = 0
    """Tiles that gave the ranges."""

    engines: tuple[EngineFile, ...] = ()
    """TensorRT engines beside the bundle."""

    @property
    def int8(self) -> Int8Choice | None:
        """The first int8 file, that for CPUs where there is one."""
        return self.choices[0] if self.choices else None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers, as plain values."""
        return {
            "bundle": str(self.bundle.path),
            "sha256": self.bundle.sha256,
            "parity": dataclasses.asdict(self.parity),
            "receptive_field_px": self.receptive_field.measured_px,
            "receptive_field_bound_px": self.receptive_field.bound_px,
            "halo_px": self.bundle.manifest.halo_px,
            "int8_scores": None if self.int8 is None else self.int8.scores,
            "int8_method": None if self.int8 is None else self.int8.method,
            "int8_scored_on": None if self.int8 is None else self.int8.scored_on,
            "engines": [item.to_json() for item in self.engines],
            "variants": [item.model_dump(mode="json") for item in self.bundle.variants],
        }
