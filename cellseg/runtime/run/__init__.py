"""One run: tiles through threads into the store, and from there to files."""
