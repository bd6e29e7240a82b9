"""Cells: told apart region by region, measured, put together, summarized."""
