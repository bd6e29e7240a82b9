"""Model families: a table of names, what can be chosen of each, and who builds it."""

from cellseg.train.families.table import (
    FAMILIES,
    HEADS,
    Family,
    Head,
    build_model,
    family_named,
    parse_params,
)

__all__ = [
    "FAMILIES",
    "HEADS",
    "Family",
    "Head",
    "build_model",
    "family_named",
    "parse_params",
]
