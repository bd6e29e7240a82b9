"""Which parts of a slide need the model at all."""
