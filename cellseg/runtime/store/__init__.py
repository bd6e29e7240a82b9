"""What is kept of a run while it lasts, and how maps are read window by window."""
