"""What each file of a bundle is worth, and which is taken."""
