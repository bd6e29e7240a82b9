"""What a bundle's manifest says of how it was made: sources, versions and what was measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellseg.export.checks.parity import Parity
    from cellseg.export.checks.receptive_field import ReceptiveField
    from cellseg.export.judging.int8 import Int8Choice
    from cellseg.export.precisions.float16 import Largest
    from cellseg.export.sources.source import Source

__all__ = ["Measured", "export_notes"]


@dataclass(frozen=True)
class Measured:
    """What was measured on the way to a bundle, besides its quality."""

    parities: dict[str, Parity]
    """By file name, that of fp32 first: difference from the source."""

    reach: ReceptiveField
    """How far past an edge the network is felt."""

    largest: Largest | None
    """Largest value inside the float16 graph; None where there is none."""

    choices: tuple[Int8Choice, ...]
    """How each int8 file was chosen."""

    tiles: int
    """Representative tiles that gave the ranges."""

    held_out: int = 0
    """Others that agreement with fp32 was measured on."""

    @property
    def parity(self) -> Parity:
        """Difference between the source and the fp32 graph."""
        return next(iter(self.parities.values()))


def export_notes(source: Source, measured: Measured) -> dict[str, Any]:
    """Return ``provenance.export`` of the manifest, as plain values."""
    packages = dict.fromkeys((source.framework, "onnx", "onnxruntime"))
    notes: dict[str, Any] = {
        "source_sha256": hashlib.sha256(source.file.read_bytes()).hexdigest(),
        "versions": {name: version(name) for name in packages},
        "parity_max_difference": _rounded(measured.parity),
        "parity": {name: _rounded(found) for name, found in measured.parities.items()},
        "receptive_field_bound_px": measured.reach.bound_px,
    }
    if measured.reach.whole_tile:
        notes["whole_tile"] = {
            "nodes": list(measured.reach.whole_tile),
            "largest_change": measured.reach.far_change,
        }
    if measured.largest is not None:
        notes["fp16"] = {"largest": measured.largest.value, "at": measured.largest.layer}
    return notes | {
        f"int8_{choice.scheme}": _int8_notes(choice, measured) for choice in measured.choices
    }


def _int8_notes(choice: Int8Choice, measured: Measured) -> dict[str, Any]:
    return {
        "ranges": choice.method,
        "rounding": choice.rounding,
        "scores": choice.scores,
        "scored_on": choice.scored_on,
        "given_back_to_float": [step.layer for step in choice.given_back],
        "representative_tiles": measured.tiles,
        "held_out_tiles": measured.held_out,
    }


def _rounded(parity: Parity) -> float:
    return float(f"{parity.max_difference:.2e}")
