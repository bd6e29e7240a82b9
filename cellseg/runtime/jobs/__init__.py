"""What a run is, settled before its first tile."""
