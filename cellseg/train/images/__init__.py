"""Labelled images: files, memory, crops."""
