"""Values of a seed's INI file: Python literals, read by hand and never evaluated.

The seeds pass every value to ``eval``; a slip then falls back to a default in silence, and a file
could run any code. Here numbers, strings, True, False, None, lists, tuples, mappings and names such
as ``cv2.INTER_CUBIC`` are understood, and nothing else. A list whose numbers stand beside each
other without a comma (``[90. 180, 270,]``, printed by two seeds) is read as it was meant, and said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from cellseg.errors import RecipeError

__all__ = ["Literal", "Name", "parse_literal"]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w./\\]))
    |(?P<string>"[^"]*"|'[^']*')
    |(?P<name>[A-Za-z_][\w.]*)
    |(?P<sign>[\[\](){},:])
    )""",
    re.VERBOSE,
)
_CONSTANTS = {"True": True, "False": False, "None": None, "true": True, "false": False}
_CLOSING = {"[": "]", "(": ")", "{": "}"}


class Name(str):
    """A name that a seed would have looked up, such as ``cv2.INTER_CUBIC``."""

    __slots__ = ()


@dataclass(frozen=True)
class Literal:
    """A value that was read."""

    value: Any
    """Number, text, bool, None, list, tuple, dict or `Name`."""

    slips: tuple[str, ...] = ()
    """What was mended on the way, in words."""


def parse_literal(text: str) -> Literal:
    """Read one value.

    Parameters
    ----------
    text : str
        What stands after the equals sign.

    Raises
    ------
    RecipeError
        If a bracket does not close or a sign stands where none may.

    Examples
    --------
    >>> parse_literal("(7,7)").value, parse_literal("'relu'").value
    ((7, 7), 'relu')
    >>> parse_literal("[90. 180, 270,]")
    Literal(value=[90, 180, 270], slips=('a comma is missing between 90 and 180',))
    """
    text = text.strip()
    if not text or (text[0] not in "[({\"'" and not _is_one_token(text)):
        return Literal(text)  # a path or words without quotes
    reader = _Reader(text, _tokens(text))
    value = reader.value()
    if reader.place < len(reader.tokens):
        raise _wrong(text, f"{reader.tokens[reader.place][1]!r} after its end")
    return Literal(value, tuple(reader.slips))


def _is_one_token(text: str) -> bool:
    found = _TOKEN.fullmatch(text)
    return found is not None and found["sign"] is None


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, place = [], 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise _wrong(text, f"{text[place : place + 12]!r}")
        tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
        place = found.end()
    return tokens


@dataclass
class _Reader:
    """Reads nested values from tokens, left to right."""

    text: str
    tokens: list[tuple[str, str]]
    place: int = 0
    slips: list[str] = field(default_factory=list)

    def value(self) -> Any:
        kind, token = self._next()
        if kind == "number":
            return _number(token)
        if kind == "string":
            return token[1:-1]
        if kind == "name":
            return _CONSTANTS[token] if token in _CONSTANTS else Name(token)
        if token == "{":
            return self._mapping()
        if token in _CLOSING:
            return self._sequence(_CLOSING[token])
        raise _wrong(self.text, repr(token))

    def _sequence(self, closing: str) -> Any:
        items: list[Any] = []
        commas = 0
        while not self._take(closing):
            item = self.value()
            if items and commas < len(items):
                self._missing_comma(items[-1], item)
                commas += 1
            items.append(item)
            commas += self._take(",")
        if closing == "]":
            return items
        return items[0] if len(items) == 1 and not commas else tuple(items)

    def _missing_comma(self, before: Any, after: Any) -> None:
        if not all(isinstance(item, int | float) for item in (before, after)):
            raise _wrong(self.text, f"{after!r} without a comma before it")
        self.slips.append(f"a comma is missing between {before} and {after}")

    def _mapping(self) -> dict[Any, Any]:
        items: dict[Any, Any] = {}
        while not self._take("}"):
            key = self.value()
            if not self._take(":"):
                raise _wrong(self.text, f"{key!r} without a colon after it")
            items[key] = self.value()
            self._take(",")
        return items

    def _take(self, sign: str) -> bool:
        if self.place < len(self.tokens) and self.tokens[self.place] == ("sign", sign):
            self.place += 1
            return True
        return False

    def _next(self) -> tuple[str, str]:
        if self.place >= len(self.tokens):
            raise _wrong(self.text, "its end before a bracket was closed")
        self.place += 1
        return self.tokens[self.place - 1]


def _number(token: str) -> int | float:
    value = float(token)
    is_whole = value.is_integer() and "e" not in token.lower() and not re.search(r"\.\d", token)
    return int(value) if is_whole else value


def _wrong(text: str, found: str) -> RecipeError:
    return RecipeError(
        "a value is a number, text, True, False, None, a list or a tuple. "
        f"Received: {text!r}, with {found}.",
        hint="values are read, never run: write the value itself.",
    )
