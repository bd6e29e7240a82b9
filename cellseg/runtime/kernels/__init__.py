"""Numba kernels: take and fill arrays, release the GIL, each with a NumPy twin in the tests."""

from __future__ import annotations

from threading import Event

__all__ = ["LOADED"]

LOADED = Event()
"""Set once kernels can be called without waiting for numba; see `cellseg.runtime.warmup`."""
