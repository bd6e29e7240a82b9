"""What this machine is, and what is kept on it between runs."""
