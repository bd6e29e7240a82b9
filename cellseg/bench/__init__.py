"""Measures the runtime, and makes the slides that it is measured on."""
