"""Rounds of contestants, each a process of its own."""
