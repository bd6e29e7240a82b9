"""JSON Schemas of models, in which the text below a field describes it.

pydantic would read these texts whenever a model is made, by parsing the source of its class: most
of the time that it takes to import a bundle's manifest. Only a schema wants them.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["schema_text"]


def schema_text(model: type[BaseModel]) -> str:
    """Return the JSON Schema of a model whose parts are defined in the same module, as a file."""
    schema = model.model_json_schema(by_alias=True)
    module = sys.modules[model.__module__]
    texts = _texts_below_fields(inspect.getsource(module))
    for name, part in [(model.__name__, schema), *schema["$defs"].items()]:
        made: type[BaseModel] = getattr(module, name)
        for defined in made.__mro__:
            for field, text in texts.get(defined.__name__, {}).items():
                key = made.model_fields[field].alias or field
                described = {"description": text, **part["properties"][key]}
                part["properties"][key] = dict(sorted(described.items()))
    return json.dumps(schema, indent=2) + "\n"


def _texts_below_fields(source: str) -> dict[str, dict[str, str]]:
    """Return the text below each field that has one, by class and field."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {node.name: dict(_fields(node.body)) for node in classes}


def _fields(body: list[ast.stmt]) -> Any:
    for field, below in pairwise(body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)
