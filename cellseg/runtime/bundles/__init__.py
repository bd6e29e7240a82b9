"""Bundles: what a model is, and the rule from its channels to classes."""
