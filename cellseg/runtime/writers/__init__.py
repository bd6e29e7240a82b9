"""Files that other programs read. Each is written whole under another name, then renamed."""
