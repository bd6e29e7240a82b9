"""Random changes of training crops."""
