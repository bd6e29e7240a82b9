"""Channels that lie side by side: red, green and blue, or stains that cannot be read as such."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cellseg.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Colour", "are_rgb", "channels_error"]

Colour = tuple[int, int, int]

_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
_NAMES = (("r", "red"), ("g", "green"), ("b", "blue"))
_WHITE = (255, 255, 255)
_SAYS_NOTHING = re.compile(r"(channel|chan|ch|c)?[\s:_#-]*\d*([:_-]\d+)*", re.IGNORECASE)


def are_rgb(names: Sequence[str | None], colours: Sequence[Colour | None]) -> bool:
    """Say whether three channels may be taken for red, green and blue.

    Colours go before names: viewers paint with them. White, which writers put where they know
    none, and names such as "Channel 1" say nothing; where nothing is said, they are RGB.

    Parameters
    ----------
    names : sequence of str or None
        Name of each channel that is described.
    colours : sequence of (int, int, int) or None
        Colour of each.

    Examples
    --------
    >>> are_rgb(["DAPI", "FITC", "Cy5"], [None] * 3), are_rgb(["Channel 0", None, ""], [None] * 3)
    (False, True)
    """
    if len(colours) == len(_COLOURS) and not {None, _WHITE} & set(colours):
        return tuple(colours) == _COLOURS
    told = ((name or "").strip() for name in names)
    return all(
        _SAYS_NOTHING.fullmatch(name) or name.lower() in known
        for name, known in zip(told, _NAMES, strict=False)
    )


def channels_error(path: str, count: int, names: Sequence[str | None]) -> SlideError:
    """Return the error for an image of several channels that are not RGB."""
    told = ", ".join(name for name in names[:8] if name)
    return SlideError(
        f"{path}: an image must have one channel or be RGB. "
        f"Received: channels={count}{f' ({told})' if told else ''}.",
        hint="Save the channel that is to be segmented as a file of its own, in Fiji for example "
        "with Image > Color > Split Channels.",
    )
