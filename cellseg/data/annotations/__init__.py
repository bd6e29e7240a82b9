"""Annotations of any kind, as classes and objects."""
