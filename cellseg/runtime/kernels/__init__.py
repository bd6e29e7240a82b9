"""Numba kernels: take and fill arrays, release the GIL, each with a NumPy twin in the tests.

Each is compiled on the first run of a machine, so what takes the compiler long is not used:

- a number that a kernel hands to another begins as ``np.int64(0)``: numba takes a plain 0 for a
  type of its own, and would compile the other kernel twice
- arrays are copied number by number: ``a[i:j] = b`` brings a message about shapes with it, and
  all that makes text, which takes longer than most kernels
"""

from __future__ import annotations

from threading import Event

__all__ = ["LOADED"]

LOADED = Event()
"""Set once kernels can be called without waiting for numba; see `cellseg.runtime.run.warmup`."""
