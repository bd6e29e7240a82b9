"""The language of rules: parsed into a small tree, evaluated without ``eval``.

::

    or         = and { "or" and }
    and        = not { "and" not }
    not        = "not" not | comparison
    comparison = sum [ ("<" | "<=" | ">" | ">=" | "==" | "!=") sum ]
    sum        = product { ("+" | "-") product }
    product    = factor { ("*" | "/") factor }
    factor     = number | text | name | function "(" text ")" | "(" or ")" | "-" factor
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cellseg.errors import RuleError

__all__ = ["CELL_NAMES", "FRAME_NAMES", "FUNCTIONS", "RUNNING_NAMES", "Expression", "parse"]

Value = float | str | bool
Values = Mapping[str, Any]

FRAME_NAMES = {
    "cells": "cells in the frame",
    "focus": "sharpness of the frame",
    "latency_ms": "exposure to result",
    "x_um": "place of the stage",
    "y_um": "place of the stage",
    "z_um": "place of the focus drive",
}
RUNNING_NAMES = {
    "total": "cells in all frames so far",
    "frames": "frames done so far",
}
CELL_NAMES = {
    "area_px": "area of a cell",
    "area_um2": "area of a cell",
    "x_px": "place of a cell in its frame",
    "y_px": "place of a cell in its frame",
    "class": "class of a cell, a text",
}
FUNCTIONS = {
    "count": "cells of a class in the frame",
    "total": "cells of a class in all frames so far",
}
_KNOWN = {**FRAME_NAMES, **RUNNING_NAMES, **CELL_NAMES}
_WORDS = ("and", "or", "not")

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<text>\"[^\"]*\"|'[^']*')"
    r"|(?P<sign><=|>=|==|!=|[-+*/<>()]))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else float("nan"),
}


@dataclass(frozen=True)
class Expression:
    """A parsed condition."""

    source: str
    """As it was written."""

    names: frozenset[str]
    """Names in it, such as ``area_um2``."""

    class_names: tuple[str, ...]
    """Classes that it names."""

    calls: frozenset[str]
    """Functions in it, such as ``count:infected``."""

    value: Callable[[Values], Any]
    """Computes it from the values of names; functions are looked up as ``count:infected``."""

    @property
    def is_of_cells(self) -> bool:
        """Whether it is about single cells rather than a frame."""
        return not self.names.isdisjoint(CELL_NAMES)

    @property
    def is_running(self) -> bool:
        """Whether it is about all frames so far: once it holds, it mostly goes on to hold."""
        names = {*self.names, *(call.partition(":")[0] for call in self.calls)}
        return not names.isdisjoint(RUNNING_NAMES)


def parse(source: str) -> Expression:
    """Parse a condition.

    Raises
    ------
    RuleError
        If it is none; with the nearest name where one is misspelled.

    Examples
    --------
    >>> rule = parse('count("infected") > 5 and focus >= 20')
    >>> rule.value({"count:infected": 6, "focus": 30.0})
    True
    >>> parse("area_mu2 > 300")
    Traceback (most recent call last):
    ...
    cellseg.errors.RuleError: A rule knows no such name. Received: area_mu2 in 'area_mu2 > 300'.
    """
    return _Parser(source).expression()


class _Parser:
    """One pass from left to right; every method returns what computes its part."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = _tokens(source)
        self._at = 0
        self._names: set[str] = set()
        self._classes: list[str] = []
        self._calls: set[str] = set()

    def expression(self) -> Expression:
        value = self._or()
        if self._at < len(self._tokens):
            raise self._wrong(f"{self._tokens[self._at][1]!r} is not expected there")
        if _kind(value) != "truth":
            raise self._wrong("it must be true or false", "Compare with something: cells > 5.")
        return Expression(
            self._source,
            frozenset(self._names),
            tuple(self._classes),
            frozenset(self._calls),
            value.compute,
        )

    def _or(self) -> _Part:
        return self._joined(self._and, "or", lambda parts: any(parts))

    def _and(self) -> _Part:
        return self._joined(self._not, "and", lambda parts: all(parts))

    def _joined(self, below: Callable[[], _Part], word: str, join: Callable[[Any], bool]) -> _Part:
        parts = [below()]
        while self._take(word):
            parts.append(below())
        if len(parts) == 1:
            return parts[0]
        for part in parts:
            self._must_be(part, "truth", f"both sides of {word!r}")
        return _Part("truth", lambda values: join(part.compute(values) for part in parts))

    def _not(self) -> _Part:
        if not self._take("not"):
            return self._comparison()
        inner = self._not()
        self._must_be(inner, "truth", "what follows 'not'")
        return _Part("truth", lambda values: not inner.compute(values))

    def _comparison(self) -> _Part:
        left = self._sum()
        sign = self._take(*_COMPARE)
        if sign is None:
            return left
        right, compare = self._sum(), _COMPARE[sign]
        if _kind(left) != _kind(right):
            raise self._wrong(f"the two sides of {sign!r} are of different kinds")
        if _kind(left) == "text" and sign not in ("==", "!="):
            raise self._wrong(f"texts are compared by == and !=, not by {sign!r}")
        self._note_class(left, right)
        return _Part("truth", lambda values: compare(left.compute(values), right.compute(values)))

    def _sum(self) -> _Part:
        return self._calculated(self._product, "+", "-")

    def _product(self) -> _Part:
        return self._calculated(self._factor, "*", "/")

    def _calculated(self, below: Callable[[], _Part], *signs: str) -> _Part:
        part = below()
        while (sign := self._take(*signs)) is not None:
            self._must_be(part, "number", f"the left of {sign!r}")
            right = below()
            self._must_be(right, "number", f"the right of {sign!r}")
            part = _calculation(_ARITHMETIC[sign], part, right)
        return part

    def _factor(self) -> _Part:
        if self._take("-"):
            inner = self._factor()
            self._must_be(inner, "number", "what follows '-'")
            return _Part("number", lambda values: -inner.compute(values))
        if self._take("("):
            inner = self._or()
            self._expect(")")
            return inner
        kind, text = self._next()
        if kind == "number":
            return _constant("number", float(text))
        if kind == "text":
            return _constant("text", text[1:-1])
        if kind == "name" and text not in _WORDS:
            return self._call(text) if self._take("(") else self._name(text)
        raise self._wrong(f"{text!r} is not expected there")

    def _name(self, name: str) -> _Part:
        if name not in _KNOWN:
            raise self._unknown("name", name, [*_KNOWN, *FUNCTIONS])
        self._names.add(name)
        return _Part("text" if name == "class" else "number", lambda values: values[name])

    def _call(self, function: str) -> _Part:
        if function not in FUNCTIONS:
            raise self._unknown("function", function, list(FUNCTIONS))
        kind, text = self._next()
        if kind != "text":
            raise self._wrong(
                f"{function} takes the name of a class", f'For example {function}("nucleus").'
            )
        self._expect(")")
        self._classes.append(text[1:-1])
        key = f"{function}:{text[1:-1]}"
        self._calls.add(key)
        return _Part("number", lambda values: values[key])

    def _note_class(self, *parts: _Part) -> None:
        if "class" in self._names:
            self._classes += [p.constant for p in parts if isinstance(p.constant, str)]

    def _take(self, *wanted: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at][1] in wanted:
            self._at += 1
            return self._tokens[self._at - 1][1]
        return None

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise self._wrong("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise self._wrong(f"{sign!r} is missing")

    def _must_be(self, part: _Part, kind: str, where: str) -> None:
        if part.kind != kind:
            raise self._wrong(f"{where} must be a {kind}, not a {part.kind}")

    def _wrong(self, why: str, hint: str | None = None) -> RuleError:
        return RuleError(f"A rule must be a condition. Received: {self._source!r}: {why}.", hint)

    def _unknown(self, noun: str, name: str, known: list[str]) -> RuleError:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(sorted(set(known)))}."
        return RuleError(
            f"A rule knows no such {noun}. Received: {name} in {self._source!r}.", hint
        )


@dataclass(frozen=True)
class _Part:
    """Part of a condition."""

    kind: str
    compute: Callable[[Values], Any]
    constant: Value | None = None


def _kind(part: _Part) -> str:
    return part.kind


def _constant(kind: str, value: Value) -> _Part:
    return _Part(kind, lambda _: value, value)


def _calculation(calculate: Callable[[Any, Any], float], left: _Part, right: _Part) -> _Part:
    return _Part("number", lambda values: calculate(left.compute(values), right.compute(values)))


def _tokens(source: str) -> list[tuple[str, str]]:
    found, at = [], 0
    text = source.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise RuleError(
                f"A rule must be a condition. Received: {source!r}: {text[at:].strip()[:1]!r} has "
                "no meaning."
            )
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found
