"""A recipe's tree as TOML text, each key with what it means."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cellseg.train.sections import Recipe

__all__ = ["recipe_text", "toml_value"]


def recipe_text(recipe: Recipe, heading: Iterable[str] = ()) -> str:
    """Write a recipe as TOML: what differs from the defaults, each key with its meaning.

    Parameters
    ----------
    recipe : Recipe
        What to write.
    heading : iterable of str
        Lines for a comment at the top.
    """
    lines = [f"# {line}".rstrip() for line in heading]
    tables: list[str] = []
    for name, field in type(recipe).model_fields.items():
        value = getattr(recipe, name)
        if isinstance(value, BaseModel):
            tables += _table(name, value, f"[{name}]")
        elif value and isinstance(value, tuple) and isinstance(value[0], BaseModel):
            for item in value:
                tables += _table(name, item, f"[[{name}]]")
        elif value is not None and value != field.default:
            lines.append(f"{name} = {toml_value(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _table(name: str, section: BaseModel, heading: str) -> list[str]:
    fields = type(section).model_fields
    plain, below = [], []
    for key, value in sorted(section, key=lambda item: item[0] != "family"):
        if value is None or (value == fields[key].default and key != "family"):
            continue
        if isinstance(value, BaseModel):
            below += _table(f"{name}.{key}", value, f"[{name}.{key}]")
        else:
            plain.append((f"{key} = {toml_value(value)}", _short(str(fields[key].description))))
    if not plain and not below:
        return []
    width = max((len(text) for text, _ in plain), default=0)
    lines = [f"{text:<{min(width, 40)}}  # {meaning}" for text, meaning in plain]
    return ["", heading, *lines, *below]


def _short(meaning: str) -> str:
    """Return the first part of a description; the reference page has all of it."""
    return re.split(r"[;:]", meaning)[0]


def toml_value(value: Any) -> str:
    """Write one value.

    Examples
    --------
    >>> toml_value((1, 2.5)), toml_value("a"), toml_value(True), toml_value({"gamma": 2.0})
    ('[1, 2.5]', '"a"', 'true', '{ gamma = 2.0 }')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)
