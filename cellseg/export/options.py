"""What an export is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.errors import ExportError
from cellseg.runtime.bundles.bundle import is_bundle_file
from cellseg.runtime.engines.tensorrt_api import find_tensorrt
from cellseg.runtime.slides.readers import missing_file
from cellseg.runtime.writers.atomic import can_be_made

if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["ExportOptions", "check_options"]

TARGETS = ("onnx", "tflite", "tensorrt")
PRECISIONS = ("fp32", "fp16", "int8")
CHANNEL_ORDERS = ("rgb", "bgr")
DEFAULT_FLOOR = 0.99
_LARGEST_MPP = 1000.0


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

    input_scale: tuple[float, ...] | None = None
    """A lone file's float input gets ``input_scale * byte + input_offset``: one number, or one a
    channel; None: 1 / 255 for ONNX, 1 for Keras, and it says so."""

    input_offset: tuple[float, ...] = (0.0,)
    """See ``input_scale``."""

    channel_order: str = "rgb"
    """Order of the channels that a lone file was trained on: ``rgb`` or ``bgr``. The numbers of
    ``input_scale`` and ``input_offset`` stand in that order."""

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
    """Slides, or folders of images, whose tiles give the ranges of int8; never those of
    ``evaluate``."""

    select: tuple[tuple[str, Path], ...] = ()
    """(name, labelled folder) to choose between int8 files by; by agreement with fp32 on tiles that
    are held out if empty."""

    evaluate: tuple[tuple[str, Path], ...] = ()
    """(name, labelled folder) whose measured quality goes into the manifest; chooses nothing. If
    empty, the agreement with fp32 goes there."""

    min_quality: float | None = None
    """Share of fp32 that int8 must keep, on every engine; None: 0.99, of which agreement that falls
    short, or cannot be measured, is warned of. Of the quality on labelled images: Dice of every
    class and object F1, each as a mean in which images count alike. Without any, of agreement with
    fp32 on tiles held out."""

    methods: tuple[str, ...] = ("minmax", "percentile", "entropy")
    """Range methods to choose from."""

    keep_channels: tuple[str, ...] | None = None
    """Names of output channels to keep; None: all."""

    halo_tolerance: float = 0.0
    """Largest change of an output that the halo may leave; 0: none, whatever the image."""

    tiles: int = 128
    """Representative tiles that give ranges."""

    held_out_tiles: int = 64
    """Representative tiles that agreement with fp32 is measured on; a third of few."""

    tile_px: int = 256
    """Side of a representative tile."""

    seed: int = 0
    """Picks tiles and noise."""

    threads: int | None = None
    """Threads to measure with; by default every core."""

    @property
    def floor(self) -> float:
        """Share of fp32 that int8 must keep."""
        return DEFAULT_FLOOR if self.min_quality is None else self.min_quality

    @property
    def is_floor_asked(self) -> bool:
        """Whether somebody insists on it, so that what cannot be measured is refused."""
        return self.min_quality is not None and self.min_quality > 0


def check_options(options: ExportOptions) -> None:
    """Refuse what cannot be exported, before work is done.

    Raises
    ------
    ExportError
        If there is nothing to export, a name is unknown, or what is asked for needs more.
    SlideError
        If representative images are not there.
    EngineError
        If TensorRT for RTX is not installed, or does not know a compute capability.
    """
    if not options.run.exists():
        raise ExportError(
            f"What is exported must be there. Received: {options.run}.",
            hint="Name a run's folder, a .keras or an .onnx file.",
        )
    _check_output(options.output)
    for path in options.representative:
        if not path.exists():
            raise missing_file(path)
    if options.mpp is not None and not 0 < options.mpp <= _LARGEST_MPP:
        raise ExportError(
            f"mpp is the size of a pixel in microns, up to {_LARGEST_MPP:g}. "
            f"Received: mpp={options.mpp}."
        )
    if not 0.0 <= options.halo_tolerance <= 1.0:
        raise ExportError(
            "halo_tolerance is a difference of probabilities, 0 to 1. "
            f"Received: halo_tolerance={options.halo_tolerance}."
        )
    unknown = sorted(set(options.precisions) - set(PRECISIONS))
    if unknown:
        raise ExportError(f"precision must be one of {PRECISIONS}. Received: {unknown}.")
    if options.channel_order not in CHANNEL_ORDERS:
        raise ExportError(
            f"channel_order must be one of {CHANNEL_ORDERS}. "
            f"Received: channel_order={options.channel_order!r}."
        )
    if not 0.0 <= options.floor <= 1.0:
        raise ExportError(
            f"min_quality is a share of fp32, 0 to 1. Received: min_quality={options.min_quality}.",
            hint="For 99 % write 0.99.",
        )
    _check_targets(options.targets)
    if options.compute_capabilities:
        _check_engines(options)
    measured = [name for name in ("int8", "fp16") if name in options.precisions]
    if measured and not options.representative:
        raise ExportError(
            f"{measured[0]} needs representative images. Received: none.",
            hint="Name folders of images like those it will see, or slides, with --representative; "
            "they need no labels. Or use --precision fp32.",
        )


def _check_engines(options: ExportOptions) -> None:
    """Refuse GPUs that no engine can be built for here: engines come last of all."""
    if "tensorrt" not in options.targets:
        raise ExportError(
            "Engines are built from the file for TensorRT. "
            f"Received: compute_capability={list(options.compute_capabilities)}, "
            f"target={list(options.targets)}.",
            hint="Add --target tensorrt.",
        )
    tensorrt = find_tensorrt("tensorrt_rtx")
    for capability in options.compute_capabilities:
        tensorrt.require_capability(capability)


def _check_output(path: Path) -> None:
    """Refuse what cannot be written, and what would be lost: an export may take an hour."""
    if path.is_dir():
        raise ExportError(
            f"A bundle is a file. Received: output={path}, a folder.",
            hint=f"Name a file in it: -o {path / 'model.cellseg'}.",
        )
    if path.exists() and not is_bundle_file(path):
        raise ExportError(
            f"Of existing files only bundles are replaced. Received: output={path}, which is none.",
            hint="Choose another name with -o, such as model.cellseg.",
        )
    if not can_be_made(path.absolute().parent):
        raise ExportError(
            f"A bundle is written to a folder that can be written. Received: {path.parent}.",
            hint="Choose another folder with -o.",
        )


def _check_targets(targets: tuple[str, ...]) -> None:
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown or not targets:
        raise ExportError(f"target must be one of {TARGETS}. Received: {list(targets)}.")
    if "tflite" in targets:
        from cellseg.export.targets.tflite import require_tensorflow

        require_tensorflow()
