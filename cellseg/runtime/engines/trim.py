"""Leaving out of a tile what nobody looks at.

A tile's halo is read so that what is kept sees its surroundings; what the network computes *of* the
halo is dropped. In the last layers of a UNet most of it need not be computed at all: a decoder sees
but a few pixels far. An engine that can leave it out says so by `Trimming`; the others compute the
whole tile, and the result is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cellseg.runtime.engines.base import Engine

__all__ = ["NOTHING", "Output", "Sides", "Trimming", "infer_seen"]


class Sides(NamedTuple):
    """Pixels along the four sides of a tile."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @classmethod
    def around(cls, yx: tuple[int, int], hw: tuple[int, int], tile_hw: tuple[int, int]) -> Sides:
        """Return what lies around a window of a tile."""
        (y, x), (height, width) = yx, hw
        return cls(y, tile_hw[0] - y - height, x, tile_hw[1] - x - width)

    def within(self, tile_hw: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of what lies within the sides."""
        return tile_hw[0] - self.top - self.bottom, tile_hw[1] - self.left - self.right


NOTHING = Sides()


class Output(NamedTuple):
    """What an engine found in a tile, or in the part of it that is looked at."""

    channels: NDArray[np.float32]
    """Shape (h, w, C), C-contiguous."""

    first_yx: tuple[int, int] = (0, 0)
    """Pixel of the tile at which ``channels`` begins."""


@runtime_checkable
class Trimming(Protocol):
    """An engine that can leave sides of a tile out. A part of some engines; see `Engine`."""

    def infer_trimmed(
        self, tile: NDArray[np.uint8], out: NDArray[np.float32] | None, unseen: Sides
    ) -> Output:
        """Run one tile whose sides are not looked at; what is computed is as `Engine.infer` has it.

        Parameters
        ----------
        tile : uint8, shape (h, w, 3)
            The whole tile: its sides are the surroundings of what is looked at.
        out : float32, shape (h, w, C), C-contiguous, or None
            Memory for the result, which lies at its beginning; None: new memory.
        unseen : Sides
            What nobody looks at. The engine leaves out as much of it as it can.
        """
        ...


def infer_seen(
    engine: Engine, tile: NDArray[np.uint8], out: NDArray[np.float32] | None, unseen: Sides
) -> Output:
    """Run one tile, without what is not looked at where the engine can do so.

    Parameters are those of `Trimming.infer_trimmed`.
    """
    if unseen != NOTHING and isinstance(engine, Trimming):
        return engine.infer_trimmed(tile, out, unseen)
    return Output(engine.infer(tile, out))
