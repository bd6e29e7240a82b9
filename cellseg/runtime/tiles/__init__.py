"""Tiles: what is read, what is kept, in which order, and how they are joined."""
