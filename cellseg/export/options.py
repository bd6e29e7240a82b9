"""What an export is told, and what it tells."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellseg.errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.export.int8 import Int8Choice
    from cellseg.export.parity import Parity
    from cellseg.export.receptive_field import ReceptiveField
    from cellseg.export.tensorrt import EngineFile
    from cellseg.runtime.bundle import Bundle

__all__ = ["ExportOptions", "ExportReport", "check_options"]

TARGETS = ("onnx", "tflite", "tensorrt")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and what to measure it on."""

    run: Path
    """Folder of a training run (``best.keras`` beside ``model.json``), a ``.keras`` file, or an
    ``.onnx`` file of one's own."""

    output: Path
    """Bundle to write."""

    classes: tuple[str, ...] = ()
    """Names of the classes, background first, for a file without a ``model.json``."""

    mpp: float | None = None
    """Microns per pixel, for the same; None: it has no scale."""

    input_scale: float = 1 / 255
    """An ONNX file of one's own with a float input gets ``input_scale * byte + input_offset``."""

    input_offset: float = 0.0
    """See ``input_scale``."""

    precisions: tuple[str, ...] = ("fp32", "int8")
    """``fp32`` is always written; ``int8`` and ``fp16`` need representative images."""

    targets: tuple[str, ...] = ("onnx",)
    """What files are made for: ``onnx`` (int8 for CPUs), ``tflite``, ``tensorrt`` (int8 for it).
    The fp32 ONNX file is always made."""

    compute_capabilities: tuple[str, ...] = ()
    """GPUs to build TensorRT engines for beside the bundle, e.g. ``8.6``; none by default."""

    engine_tile_px: int = 1024
    """Side of the tiles those engines take."""

    representative: tuple[Path, ...] = ()
    """Folders of images whose tiles give the ranges of int8; never those of ``evaluate``."""

    select: tuple[tuple[str, Path], ...] = ()
    """(name, labelled folder) to choose between int8 files by; by agreement with fp32 if empty."""

    evaluate: tuple[tuple[str, Path], ...] = ()
    """(name, labelled folder) whose measured quality goes into the manifest; chooses nothing."""

    min_quality: float = 0.99
    """Share of the fp32 quality that int8 must keep: Dice of every class and object F1, each as a
    mean in which images count alike, on every engine."""

    methods: tuple[str, ...] = ("minmax", "percentile", "entropy")
    """Range methods to choose from."""

    keep_channels: tuple[str, ...] | None = None
    """Names of output channels to keep; None: all."""

    halo_tolerance: float = 0.0
    """Largest change of an output that the halo may leave; 0: none, whatever the image."""

    tiles: int = 128
    """Representative tiles."""

    tile_px: int = 256
    """Side of a representative tile."""

    seed: int = 0
    """Picks tiles and noise."""

    threads: int | None = None
    """Threads to measure with; by default every core."""


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
            "engines": [item.to_json() for item in self.engines],
            "variants": [item.model_dump(mode="json") for item in self.bundle.variants],
        }


def check_options(options: ExportOptions) -> None:
    """Refuse what cannot be exported, before work is done.

    Raises
    ------
    ExportError
        If there is nothing to export, a name is unknown, or what is asked for needs more.
    """
    if not options.run.exists():
        raise ExportError(
            f"What is exported must be there. Received: {options.run}.",
            hint="Name a run's folder, a .keras or an .onnx file.",
        )
    unknown = sorted(set(options.precisions) - set(PRECISIONS))
    if unknown:
        raise ExportError(f"precision must be one of {PRECISIONS}. Received: {unknown}.")
    _check_targets(options.targets)
    if options.compute_capabilities and "tensorrt" not in options.targets:
        raise ExportError(
            "Engines are built from the file for TensorRT. "
            f"Received: compute_capability={list(options.compute_capabilities)}, "
            f"target={list(options.targets)}.",
            hint="Add --target tensorrt.",
        )
    measured = [name for name in ("int8", "fp16") if name in options.precisions]
    if measured and not options.representative:
        raise ExportError(
            f"{measured[0]} needs representative images. Received: none.",
            hint="Name folders of training images with --representative, or use --precision fp32.",
        )


def _check_targets(targets: tuple[str, ...]) -> None:
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown or not targets:
        raise ExportError(f"target must be one of {TARGETS}. Received: {list(targets)}.")
    if "tflite" in targets:
        from cellseg.export.tflite import require_tensorflow

        require_tensorflow()
