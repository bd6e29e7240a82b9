"""What an export starts from."""
