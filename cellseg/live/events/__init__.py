"""Rules over frames and cells, and what happens when one holds."""
