"""The ten classes of a smear, in the colours of the seed's table."""

from __future__ import annotations

from cellseg.runtime.bundles.class_file import MaskClass

__all__ = ["CLASSES", "HEALTHY", "INFECTED", "PASTED", "index_of"]

CLASSES = (
    MaskClass(0, "background", (0, 0, 0)),
    MaskClass(1, "eosinophil", (0, 255, 255)),
    MaskClass(2, "basophil", (0, 128, 128)),
    MaskClass(3, "neutrophil", (251, 190, 190)),
    MaskClass(4, "lymphocyte", (128, 128, 0)),
    MaskClass(5, "monocyte", (0, 0, 128)),
    MaskClass(6, "thrombocyte", (255, 255, 0)),
    MaskClass(7, "platelet clump", (255, 0, 255)),
    MaskClass(8, "infected red cell", (255, 0, 0)),
    MaskClass(9, "healthy red cell", (0, 255, 0)),
)
INFECTED, HEALTHY = 8, 9
PASTED = range(1, 8)
"""Classes that are pasted onto a field; the two others make up the fields."""


def index_of(name: str) -> int:
    """Return the index of a class; case and underscores do not matter.

    Examples
    --------
    >>> index_of("Platelet_clump"), index_of("healthy red cell")
    (7, 9)
    """
    plain = name.lower().replace("_", " ").replace("-", " ").strip()
    return next(item.value for item in CLASSES if item.name == plain)
