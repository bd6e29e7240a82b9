"""Recipes: read, shown, and those that ship."""
