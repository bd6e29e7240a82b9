"""The slide as the model sees it: its pixel size and its range of values."""
