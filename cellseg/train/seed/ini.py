"""A seed's INI file as sections of values, each with the line it stands on.

As `configparser` reads it, with four differences: a section or key may come twice (the last one
counts, and it is said), text after `` ;`` or `` #`` is a comment, every value is read as a literal,
and nothing is interpolated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cellseg.errors import RecipeError
from cellseg.train.seed.literal import parse_literal

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["IniFile", "IniValue", "read_ini"]

_SECTION = re.compile(r"\[\s*([^\]]+?)\s*\]\s*(?:[;#].*)?$")
_COMMENT = re.compile(r"""^((?:[^"';#]|"[^"]*"|'[^']*'|(?<!\s)[;#])*?)\s+[;#].*$""")


@dataclass(frozen=True)
class IniValue:
    """One ``key = value`` of the file."""

    value: Any
    """What it holds."""

    line: int
    """Line number, from 1."""


@dataclass
class IniFile:
    """All sections of a file, names in lower case."""

    path: Path
    """The file."""

    sections: dict[str, dict[str, IniValue]] = field(default_factory=dict)
    """Section name to key to value."""

    notes: list[str] = field(default_factory=list)
    """What was mended or overruled while reading."""

    def get(self, section: str, key: str, default: Any = None) -> Any:
        """Return a value; the default where it is missing or ``None``."""
        item = self.sections.get(section, {}).get(key)
        return default if item is None or item.value is None else item.value

    def number(self, section: str, key: str, default: float) -> float:
        """Return a number; RecipeError where the value is something else."""
        value = self.get(section, key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(section, key, "a number", value)
        return value

    def flag(self, section: str, key: str, default: bool = False) -> bool:
        """Return True or False; RecipeError where the value is something else."""
        value = self.get(section, key, default)
        if not isinstance(value, bool):
            raise self.wrong(section, key, "True or False", value)
        return value

    def values(self, section: str, key: str, default: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a list of values; one alone is a list of one."""
        value = self.get(section, key, default)
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    def wrong(self, section: str, key: str, rule: str, value: Any) -> RecipeError:
        """Return the error that names file, line and key of a value that breaks a rule."""
        line = self.sections[section][key].line
        return RecipeError(
            f"{self.path.name}, line {line}: [{section}] {key} must be {rule}. Received: {value!r}."
        )


def read_ini(path: Path) -> IniFile:
    """Read a seed's configuration file.

    Raises
    ------
    RecipeError
        If the file is missing or no text, or a line is neither section, key nor comment.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"a configuration is a text file. Received: {path}: {error}.") from error
    found, section = IniFile(path), None
    for number, line in _logical_lines(text):
        heading = _SECTION.fullmatch(line)
        if heading is not None:
            section = heading[1].lower()
            found.sections.setdefault(section, {})
        else:
            _read_key(found, section, number, line)
    if not found.sections:
        raise RecipeError(f"a configuration has sections such as [model]. Received: {path}.")
    return found


def _read_key(found: IniFile, section: str | None, number: int, line: str) -> None:
    name, *value = re.split("[=:]", line, maxsplit=1)
    key = name.strip().lower()
    if section is None or not value or not key:
        raise RecipeError(
            "a line is a [section], key = value, or a comment that begins with ; or #. "
            f"Received: {found.path.name}, line {number}: {line.strip()!r}."
        )
    try:
        literal = parse_literal(_without_comment(value[0].strip()))
    except RecipeError as error:
        where = f"{found.path.name}, line {number}, [{section}] {key}"
        raise RecipeError(f"{where}: {error}", hint=error.hint) from error
    found.notes += [f"[{section}] {key}: {slip}; read as {literal.value}" for slip in literal.slips]
    keys = found.sections[section]
    if key in keys and keys[key].value != literal.value:
        found.notes.append(
            f"[{section}] {key} is there twice (lines {keys[key].line} and {number}): "
            f"the last one counts, {literal.value!r}"
        )
    keys[key] = IniValue(literal.value, number)


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines with what they say; an open bracket goes on in the next line."""
    lines: list[tuple[int, str]] = []
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip()[:1] in ("", ";", "#"):
            continue
        if depth > 0 and not re.match(r"\s*\w+\s*=", line):
            lines[-1] = (lines[-1][0], f"{lines[-1][1]} {_without_comment(line.strip())}")
        else:
            lines.append((number, line.strip()))
        said = re.sub(r"\"[^\"]*\"|'[^']*'", "", lines[-1][1])
        depth = sum(map(said.count, "[({")) - sum(map(said.count, "])}"))
    return lines


def _without_comment(text: str) -> str:
    if text[:1] in (";", "#"):
        return ""
    found = _COMMENT.fullmatch(text)
    return found[1] if found else text
