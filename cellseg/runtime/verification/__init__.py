"""Whether a tiled result is what the whole image would have given."""
