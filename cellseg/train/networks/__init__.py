"""Networks of recipes, and what they say of an image."""
