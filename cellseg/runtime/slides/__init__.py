"""Slides: files of every kind as levels of one image, read window by window."""
