"""Where frames come from: cameras, videos, folders, and slides played as a camera."""
