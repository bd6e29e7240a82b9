"""What every engine promises, and the checks they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellseg.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Engine", "EngineOptions", "ForkedError"]


class ForkedError(EngineError):
    """An engine must not be used in this process; it says nothing of the engine elsewhere."""


class Engine(Protocol):
    """Runs one model on tiles of one shape. Tiling, colour and blending stay outside.

    Notes
    -----
    *Threads.* ``infer`` may be called from several threads at once; up to ``concurrency`` calls do
    work side by side, further ones wait. ``close`` must not run beside ``infer``.

    *Ownership.* The array that ``infer`` returns belongs to the caller: ``out`` itself where it was
    given, else a new one. No later call writes to it. The tile is not written to, and is not read
    any more once ``infer`` has returned.

    *Reproducibility.* One tile a call: the same tile gives the same bytes whatever runs beside it.
    """

    @property
    def name(self) -> str:
        """Key in ``ENGINES``."""
        ...

    @property
    def precision(self) -> str:
        """``fp32``, ``bf16``, ``fp16`` or ``int8``."""
        ...

    @property
    def device(self) -> str:
        """Where it runs, e.g. ``cpu``."""
        ...

    @property
    def threads(self) -> int:
        """Threads that compute."""
        ...

    @property
    def concurrency(self) -> int:
        """How many threads may usefully call ``infer`` at once."""
        ...

    @property
    def tile_hw(self) -> tuple[int, int]:
        """Height and width of every tile, in pixels."""
        ...

    def infer(
        self, tile: NDArray[np.uint8], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Map an RGB tile, uint8 (h, w, 3), to the model's channels, float32 (h, w, C).

        Parameters
        ----------
        tile : uint8, shape (h, w, 3)
            RGB at the model's resolution, intensity range already applied.
        out : float32, shape (h, w, C), C-contiguous, optional
            Where to write the result.

        Raises
        ------
        EngineError
            If shape or dtype differ from what the engine was opened for, or it is closed.
        """
        ...

    def close(self) -> None:
        """Release the model; what it is called stays. May be called again."""
        ...


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is opened for."""

    precision: str
    """``fp32``, ``bf16``, ``fp16`` or ``int8``."""

    tile_hw: tuple[int, int]
    """Height and width of every tile, in pixels."""

    channels: int
    """Output channels of the model."""

    threads: int
    """Threads to compute with, at least 1."""

    one_at_a_time: bool = False
    """Whether tiles come one by one and each shall be done as soon as can be: all threads then work
    on one tile, instead of on several side by side."""

    most_at_once: int | None = None
    """Most tiles to work on side by side, since each takes memory; None: as many as is fastest."""

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the batch of one tile that goes in."""
        return (1, *self.tile_hw, 3)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the batch of one tile that comes out."""
        return (1, *self.tile_hw, self.channels)

    def batch_of(self, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Check a tile; return it as a contiguous batch of one, without a copy where possible."""
        if tile.shape != self.input_shape[1:] or tile.dtype != np.uint8:
            raise EngineError(
                f"A tile must be uint8 of shape {self.input_shape[1:]}. "
                f"Received: dtype={tile.dtype}, shape={tile.shape}.",
                hint="Open the engine with the tile_hw of the tiles.",
            )
        return np.ascontiguousarray(tile)[np.newaxis]

    def output_for(self, out: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Check the array to write to, or make one; shape (h, w, C)."""
        shape = self.output_shape[1:]
        if out is None:
            return np.empty(shape, np.float32)
        writable = out.flags.c_contiguous and out.flags.writeable
        if out.shape != shape or out.dtype != np.float32 or not writable:
            raise EngineError(
                f"out must be writable, contiguous float32 of shape {shape}. Received: "
                f"dtype={out.dtype}, shape={out.shape}, writable and contiguous={writable}."
            )
        return out

    def check_output(self, shape: Any, name: str) -> None:
        """Refuse a model whose output is not (1, h, w, C) for this tile."""
        found = tuple(int(size) for size in shape)
        if found != self.output_shape:
            raise EngineError(
                f"The model must map {self.input_shape} to {self.output_shape}. "
                f"Received: {name} computes {found}.",
                hint="The manifest's channels or stride do not fit the model.",
            )
