"""Numba kernels: take and fill arrays, release the GIL, each with a NumPy twin in the tests."""
