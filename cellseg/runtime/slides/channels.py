"""Channels that lie side by side: red, green and blue, or stains of which one is to be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from cellseg.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "RGB_NAMES",
    "Channel",
    "Colour",
    "Wanted",
    "are_rgb",
    "channels_error",
    "chosen_channel",
    "pick_channel",
]

Colour = tuple[int, int, int]
Wanted: TypeAlias = "str | int | None"
"""A channel as a user names it: by its name or its number, from 1 on; None: all of them."""

RGB_NAMES = ("red", "green", "blue")
_MOST_TOLD = 12

_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
_NAMES = (("r", "red"), ("g", "green"), ("b", "blue"))
_WHITE = (255, 255, 255)
_SAYS_NOTHING = re.compile(r"(channel|chan|ch|c)?[\s:_#-]*\d*([:_-]\d+)*", re.IGNORECASE)


@dataclass(frozen=True)
class Channel:
    """The channel of a file that is read."""

    number: int
    """From 1 on, as Fiji and QuPath count."""

    names: tuple[str | None, ...]
    """Of all channels of the file."""

    @property
    def index(self) -> int:
        """From 0 on."""
        return self.number - 1

    @property
    def name(self) -> str | None:
        """As the file says."""
        return self.names[self.index]

    def properties(self) -> dict[str, str]:
        """Return what a slide's ``properties`` say of it."""
        named = {} if self.name is None else {"channel name": self.name}
        return {"channel": f"{self.number} of {len(self.names)}"} | named


def chosen_channel(slide: object) -> Channel | None:
    """Return the channel that a slide was opened to read alone; None where it is read whole."""
    found = getattr(slide, "channel", None)
    return found if isinstance(found, Channel) else None


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


def pick_channel(path: str, wanted: str | int, names: Sequence[str | None]) -> Channel:
    """Return the channel that is wanted; a name goes before a number.

    Parameters
    ----------
    path : str
        For messages.
    wanted : str or int
        Its name, in upper or lower case, or its number from 1 on, which may be text.
    names : sequence of str or None
        Name of each channel that is there.

    Raises
    ------
    SlideError
        If there is none, or several have that name.

    Examples
    --------
    >>> pick_channel("a.tif", "dapi", ["DAPI", None]).number
    1
    """
    numbers = [wanted] if isinstance(wanted, int) else _by_name(wanted, names)
    if not numbers and isinstance(wanted, str) and wanted.strip().isdecimal():
        numbers = [int(wanted)]
    if len(numbers) > 1:
        raise SlideError(
            f"{path}: several channels have this name. Received: channel={wanted}.",
            hint=f"Give the number: {', '.join(map(str, numbers))}.",
        )
    if not numbers or not 1 <= numbers[0] <= len(names):
        raise SlideError(
            f"{path}: there is no such channel. Received: channel={wanted}.",
            hint=f"There are {len(names)}{_listed(names)}.",
        )
    return Channel(numbers[0], tuple((name or "").strip() or None for name in names))


def _by_name(wanted: str, names: Sequence[str | None]) -> list[int]:
    given = wanted.strip().lower()
    told = enumerate(((name or "").strip().lower() for name in names), 1)
    return [number for number, name in told if name and name == given]


def _listed(names: Sequence[str | None]) -> str:
    """Return what channels are called, in brackets; nothing where none has a name."""
    if not any(names):
        return ""
    told = [f"{number} {name or ''}".strip() for number, name in enumerate(names, 1)]
    more = [f"{len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
    return f" ({', '.join(told[:_MOST_TOLD] + more)})"


def channels_error(path: str, names: Sequence[str | None]) -> SlideError:
    """Return the error for an image of several channels that are not RGB."""
    return SlideError(
        f"{path}: an image must have one channel or be RGB. "
        f"Received: channels={len(names)}{_listed(names)}.",
        hint="Choose the one to segment by its name or number, as in --channel "
        f"{names[0] or 1}. (Commands without --channel want it as a file of its own, in Fiji: "
        "Image > Color > Split Channels.)",
    )
