"""Values through a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["look_up"]


@kernel
def look_up(values: NDArray[Any], table: NDArray[Any], out: NDArray[Any]) -> None:
    """Write what a table says of each value.

    Parameters
    ----------
    values : uint16, shape (n,)
        None beyond the table.
    table : uint8 or uint16, shape (65536,)
        What to write for each.
    out : dtype of the table, shape (n,)
        Written.
    """
    for index in range(values.size):
        out[index] = table[values[index]]
