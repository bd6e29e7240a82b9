"""What a run will hold, and the tiles that fit."""
