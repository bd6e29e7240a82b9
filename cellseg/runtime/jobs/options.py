"""What a user may choose about a run, and what the run says of itself while it lasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from cellseg.errors import CellsegError
from cellseg.runtime.jobs.outputs import DEFAULT_OUTPUTS, check_names
from cellseg.runtime.shapes.outlines import DEFAULT_TOLERANCE_PX
from cellseg.runtime.slides.slide import check_mpp
from cellseg.runtime.tiles.blend import check_blend
from cellseg.runtime.tissue.mask import TissueLimits
from cellseg.runtime.view.fit import FITS

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["InferOptions", "Phase", "Progress", "ProgressCallback"]

DEFAULT_LIMITS = TissueLimits()
_COARSEST_PX = 10
Phase = Literal["open", "tissue", "tiles", "cells", "write"]


@dataclass(frozen=True)
class InferOptions:
    """How a slide or image is to be run. None leaves the choice to us.

    Raises
    ------
    CellsegError
        If a number is out of range or an output is unknown.
    """

    model: str | Path = "nuclei"
    """Name of a shipped bundle, or path of a ``.cellseg`` file."""

    engine: str = "auto"
    """``auto`` or the name of an engine."""

    precision: str = "auto"
    """``auto``, ``fp32``, ``fp16``, ``bf16`` or ``int8``."""

    threads: int | None = None
    """Threads inside the engine."""

    tiles_at_once: int | None = None
    """Most tiles that the engine computes side by side, each taking memory. Never changes a byte of
    the result."""

    tile_px: int | None = None
    """Side of what a tile reads, a multiple of the model's stride."""

    batch: int | None = None
    """Tiles that wait ready for the engine. Never changes a byte of the result."""

    workers: int | None = None
    """Threads that read and decode. Never changes a byte of the result."""

    max_ram_bytes: int | None = None
    """Memory the run may use, bytes; refused beforehand where the plan cannot fit."""

    mpp: float | None = None
    """Microns per level-0 pixel; overrides what the file says."""

    channel: str | int | None = None
    """The only channel to read, as grey: its name, or its number from 1 on; None: grey and RGB
    images are read as they are, others refused."""

    fit: str = "auto"
    """For a model that was trained on whole images: ``whole`` brings the image to the model's size,
    ``native`` leaves it at its own scale, in tiles; ``auto``: as it was trained."""

    threshold: float | None = None
    """Foreground from this probability on, in (0, 1); None: the bundle's own rule."""

    blend: str = "crop"
    """How tiles are joined: ``crop`` (exact), or a mean weighted by ``hann`` or ``gaussian``."""

    overlap: float | None = None
    """Part of a tile that its neighbour reads too, 0 to 0.8; for blending only. None: a quarter."""

    tissue_mask: bool | str | Path = True
    """Leave out what holds no tissue (slides only; plain images are run whole); or a mask's file:
    an image of the whole slide, nonzero where tissue is."""

    tissue_limits: TissueLimits = DEFAULT_LIMITS
    """Specks and holes that are too small to count, where the mask is ours."""

    roi: str | Path | None = None
    """GeoJSON file of regions, in level-0 pixels: what lies outside is background, and not run."""

    on_error: str = "stop"
    """What a damaged tile of the slide does: ``stop`` the run, or be taken for background
    (``skip``) and listed in the report."""

    restart: bool = False
    """Drop an unfinished or finished result in the folder and start over."""

    write: tuple[str, ...] = DEFAULT_OUTPUTS
    """Which files to make, of `cellseg.runtime.jobs.outputs.OUTPUTS`; ``run.json`` always is."""

    blur_px: int = 5
    """Side of the Gaussian that ``blurred-mask`` is blurred by, odd; 1 leaves it sharp."""

    simplify_px: float = DEFAULT_TOLERANCE_PX
    """How far an outline of a cell may lie from where it was traced, in pixels of the working
    level; 0 keeps to the sides of pixels."""

    def __post_init__(self) -> None:
        for name in ("threads", "tiles_at_once", "tile_px", "batch", "workers", "max_ram_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CellsegError(f"{name} must be at least 1. Received: {name}={value}.")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise CellsegError(
                f"A threshold lies between 0 and 1. Received: threshold={self.threshold}."
            )
        if self.mpp is not None:
            check_mpp(self.mpp)
        if self.fit not in FITS:
            raise CellsegError(f"fit is one of {', '.join(FITS)}. Received: fit={self.fit}.")
        if self.blur_px < 1 or self.blur_px % 2 == 0:
            raise CellsegError(
                f"A blur is an odd number of pixels. Received: blur_px={self.blur_px}."
            )
        if not 0 <= self.simplify_px <= _COARSEST_PX:
            raise CellsegError(
                f"Outlines are simplified by 0 to {_COARSEST_PX} pixels. "
                f"Received: simplify_px={self.simplify_px}."
            )
        check_names(self.write)
        if self.on_error not in ("stop", "skip"):
            raise CellsegError(f"on_error is stop or skip. Received: on_error={self.on_error}.")
        check_blend(self.blend, self.overlap)


@dataclass(frozen=True)
class Progress:
    """State of a run at one moment."""

    phase: Phase
    """What is being done; the counts below are of tiles, but in ``cells`` of regions."""

    tiles_done: int
    """Tiles finished, those of earlier sessions included."""

    tiles_total: int
    """Tiles to run: those without tissue are not among them."""

    tiles_resumed: int
    """Tiles that an earlier session had finished."""

    elapsed_s: float
    """Seconds since this session began to run tiles."""

    throughput_mpx_s: float | None
    """Kept working-level megapixels per second, this session; None before the first tile."""

    mm2_per_s: float | None
    """The same in mm²; None where the pixel size is not known."""

    eta_s: float | None
    """Seconds left for the tiles at this pace; None before the first tile."""

    bottleneck: str | None
    """Stage that holds the run back: ``read``, ``infer``, ``stitch`` or ``write``."""

    bottleneck_share: float | None
    """Part of the time for which all of that stage's threads were busy, 0 to 1."""


ProgressCallback: TypeAlias = Callable[[Progress], None]
"""Called from the thread that called `infer_slide`, about ten times a second."""
