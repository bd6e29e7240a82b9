"""Slides made for measuring, with their truth."""
