"""Frames of a moving stage put together: registered, placed, read as one slide."""
