"""Rules from a TOML file: a condition, and what happens when it holds.

::

    [[rule]]
    name = "infected"
    when = 'count("infected") > 5'
    webhook = "http://127.0.0.1:9000/hook"

    [[rule]]
    name = "enough"
    when = "total >= 1000"
    stop = true
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cellseg.errors import RuleError
from cellseg.live.events.expression import CELL_NAMES, Expression, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Rule", "check_rules", "read_rules", "rules_from"]

_COUNTS = frozenset({"cells", "total"})


@dataclass(frozen=True)
class Rule:
    """One rule."""

    name: str
    """What it is called in records; its condition where nothing is said."""

    when: Expression
    """Its condition: of a frame, or of single cells where it names what only cells have."""

    once: bool = False
    """Whether it fires only when it begins to hold: so by default where it is about all frames so
    far. Else it fires with every frame for which it holds."""

    webhook: str | None = None
    """Where to POST the event as JSON."""

    stop: bool = False
    """Whether the run ends."""

    reimage: bool = False
    """Whether the place is to be taken again: an ``MDAEvent`` for each cell, or for the frame."""


_KEYS = {"name": str, "when": str, "once": bool, "webhook": str, "stop": bool, "reimage": bool}
assert set(_KEYS) == {field.name for field in fields(Rule)}


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read rules from a TOML file.

    Raises
    ------
    RuleError
        If the file is missing or no TOML, a key is unknown, or a condition is none; with the
        nearest name where one is misspelled.
    """
    toml = _toml()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RuleError(
            f"A file of rules must be there. Received: {path} ({error.strerror})."
        ) from error
    except UnicodeDecodeError as error:
        raise RuleError(f"A file of rules is UTF-8. Received: {path}: {error}.") from error
    try:
        content = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise RuleError(f"A file of rules must be TOML. Received: {path}: {error}.") from error
    return rules_from(content, str(path))


def rules_from(content: dict[str, Any], where: str = "<rules>") -> tuple[Rule, ...]:
    """Return the rules of a parsed TOML document.

    Raises
    ------
    RuleError
        As `read_rules`.
    """
    _check_keys(content, ["rule"], where)
    tables = content.get("rule", [])
    if not isinstance(tables, list) or not tables:
        raise RuleError(
            f"A file of rules must hold at least one [[rule]]. Received: {where} without.",
            hint="[[rule]] takes two brackets on each side.",
        )
    return tuple(_rule(table, f"{where}, rule {n}") for n, table in enumerate(tables, 1))


def check_rules(rules: Sequence[Rule], class_names: Sequence[str], mpp: float | None) -> None:
    """Refuse rules that could never fire.

    Parameters
    ----------
    rules : sequence of Rule
        As they were written.
    class_names : sequence of str
        Classes whose cells are counted; none where the model does not tell cells apart.
    mpp : float or None
        Microns per pixel of the frames.

    Raises
    ------
    RuleError
        If one names a class that is not among them, or what is not measured.
    """
    for rule in rules:
        for name in rule.when.class_names:
            _check_class(name, rule.when, class_names)
        if not class_names and not rule.when.names.isdisjoint({*CELL_NAMES, *_COUNTS}):
            raise RuleError(
                "A rule about cells needs a model that tells them apart. "
                f"Received: {rule.when.source!r}."
            )
        if mpp is None and "area_um2" in rule.when.names:
            raise RuleError(
                "An area in square microns needs the size of a pixel. Received: "
                f"{rule.when.source!r}, and frames that do not state it.",
                hint="Say it with --mpp, or use area_px.",
            )


def _check_class(name: str, when: Expression, class_names: Sequence[str]) -> None:
    if name in class_names:
        return
    near = difflib.get_close_matches(name, class_names, 1)
    raise RuleError(
        f"A rule must name classes of the model. Received: {name!r} in "
        f"{when.source!r}; the model tells {', '.join(class_names) or 'none'}.",
        hint=f"Did you mean {near[0]!r}?" if near else None,
    )


def _rule(table: Any, where: str) -> Rule:
    if not isinstance(table, dict):
        raise RuleError(f"A rule must be a table. Received: {where}: {table!r}.")
    _check_keys(table, list(_KEYS), where)
    for key, value in table.items():
        if not isinstance(value, _KEYS[key]):
            raise RuleError(
                f"{key} of a rule must be a {_KEYS[key].__name__}. Received: {where}: {value!r}."
            )
    if "when" not in table:
        raise RuleError(f"A rule needs a condition. Received: {where} without 'when'.")
    when = parse(table["when"])
    if (url := table.get("webhook")) is not None:
        _check_url(url, where)
    known = {"name": table["when"], "once": when.is_running} | table
    return Rule(**(known | {"when": when}))


def _check_keys(table: dict[str, Any], known: list[str], where: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."
            raise RuleError(f"Rules have no such key. Received: {key} in {where}.", hint)


def _check_url(url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an open bracket, or a port that is none
        is_http = False
    if not is_http or any(not sign.isprintable() or sign.isspace() for sign in url):
        raise RuleError(
            f"A webhook must be an http address. Received: {where}: {url!r}.",
            hint="A space in it is written %20.",
        )


def _toml() -> Any:
    for name in ("tomllib", "tomli"):  # the second one on Python 3.10
        if find_spec(name) is not None:
            return import_module(name)
    raise RuleError(
        "Rules need the live extra on Python 3.10. Received: no module 'tomli'.",
        hint="pip install 'cellseg[live]'",
    )
