"""Polygons: outlines of cells, and regions that somebody drew."""
