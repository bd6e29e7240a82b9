"""Numba kernels of training alone; a device that infers never compiles them."""
