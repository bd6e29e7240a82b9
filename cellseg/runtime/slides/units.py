"""Units of length, however a file spells them."""

from __future__ import annotations

__all__ = ["um_per"]

_SYMBOLS = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "nm": 1e-3, "pm": 1e-6, "Å": 1e-4, "in": 25400.0,
    "pt": 25400.0 / 72,
}  # fmt: skip
# Of these alone upper case means nothing else (Mm are megametres): both letters for micro have one
# folded form, and ImageJ writes the escape.
_FOLDED_UM = ("um", "μm", "\\u00b5m")
_NAMES = {
    "meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0, "micron": 1.0,
    "nanometer": 1e-3, "picometer": 1e-6, "angstrom": 1e-4, "inch": 25400.0,
}  # fmt: skip


def um_per(unit: str) -> float | None:
    """Return the microns of a unit by its symbol or name; None if it is not known.

    Examples
    --------
    >>> um_per("µm"), um_per("Micrometres"), um_per("inches"), um_per("pixel")
    (1.0, 1.0, 25400.0, None)
    """
    text = unit.strip()
    if text.casefold() in _FOLDED_UM:
        return 1.0
    if text in _SYMBOLS:
        return _SYMBOLS[text]
    name = text.lower().removesuffix("s").replace("metre", "meter")
    return _NAMES.get("inch" if name == "inche" else name)
