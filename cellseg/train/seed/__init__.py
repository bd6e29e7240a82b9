"""The INI files of the seed projects: read as they are, and said again as a recipe of ours.

`ini` reads sections and keys with their line numbers, `literal` reads a value without ever
evaluating it, `keys` says what each known key means here, `convert` makes the recipe.
"""
