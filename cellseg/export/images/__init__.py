"""Images that an export looks at."""
