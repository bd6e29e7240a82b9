"""Train, valid and test, without leaks."""
