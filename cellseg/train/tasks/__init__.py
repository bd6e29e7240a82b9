"""What is learned: numbered cells, or classes of pixels."""
