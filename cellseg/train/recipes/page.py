"""The reference pages of recipes, made from the sections themselves: they cannot be stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel

from cellseg.train.families import FAMILIES
from cellseg.train.objectives import LOSSES, SEED_LOSSES
from cellseg.train.recipes.toml_text import toml_value
from cellseg.train.sections import FAMILY_MODELS, Recipe
from cellseg.train.seed.keys import SLIPS, seed_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

__all__ = ["recipe_page", "seed_keys_page"]

_HEAD = """# Recipes

A recipe is one TOML file that says everything a training run depends on. Every key has a default;
an unknown key is an error that names the nearest one. `cellseg-cli recipe check FILE` sets out a
recipe with all defaults, `recipe schema` prints the [JSON Schema](schema/recipe.schema.json) for
editors, `recipe list` names the recipes in the package, and `recipe convert` makes one of a [seed's
INI file](seeds.md). Paths start from `--data`, by default from the file's folder.

This page is made from the code by `python bench/recipe_pages.py`.
"""


def recipe_page() -> str:
    """Write docs/recipes.md."""
    lines = [_HEAD, *_rows("Top level", "", Recipe, _is_plain)]
    for name, field in Recipe.model_fields.items():
        section = _section(field.annotation)
        if name == "model":
            lines += _families()
        elif section is not None:
            is_list = get_origin(field.annotation) is tuple
            heading = f"`[[{name}]]`" if is_list else f"`[{name}]`"
            lines += _rows(heading, _first_line(section), section)
    lines += _losses()
    return "\n".join(lines) + "\n"


def seed_keys_page() -> str:
    """Write docs/seed-keys.md."""
    lines = [
        "# Keys of the seeds' configuration files",
        "",
        "What each key of a `train_eval_infer.config` becomes in a [recipe](recipes.md). "
        "Made from the code by",
        "`python bench/recipe_pages.py`.",
    ]
    section = ""
    for key in seed_keys():
        if key.section != section:
            section = key.section
            lines += [
                "",
                f"## `[{section}]`",
                "",
                "| key | becomes | how, or why not |",
                "|---|---|---|",
            ]
        becomes = f"`{key.becomes}`" if key.becomes else "no effect"
        lines.append(f"| `{key.key}` | {becomes} | {_escaped(key.why)} |")
    lines += ["", "## Slips that are understood", ""]
    lines += [f"- `[{a}] {b}` is read as `[{c}] {d}`" for (a, b), (c, d) in SLIPS.items()]
    lines += ["- `angles = [90. 180, 270,]`: a missing comma between two numbers is put in"]
    return "\n".join(lines) + "\n"


def _families() -> Iterator[str]:
    yield from ["", "## `[model]`", ""]
    yield "`family` names the network; the other keys are that family's. Default: `stem-unet`."
    for name, model in FAMILY_MODELS.items():
        family = FAMILIES[name]
        text = f"{_first_line(family.params)} {family.source}."
        yield from _rows(f'`family = "{name}"`', text, model, lambda key, _: key != "family", "###")


def _losses() -> Iterator[str]:
    from cellseg.train.objectives import loss_class

    yield from ["", "## Losses", "", "| name | formula | the seeds' names |", "|---|---|---|"]
    for name in LOSSES:
        others = ", ".join(f"`{other}`" for other, ours in SEED_LOSSES.items() if ours == name)
        yield f"| `{name}` | {_escaped(_first_line(loss_class(name)))} | {others} |"


def _rows(
    heading: str, text: str, section: type[BaseModel], wanted: Any = None, level: str = "##"
) -> Iterator[str]:
    yield from ["", f"{level} {heading}", ""]
    if text:
        yield from [text, ""]
    yield from ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in section.model_fields.items():
        if wanted is not None and not wanted(key, field):
            continue
        default = "required" if field.is_required() else f"`{_default(field)}`"
        yield (
            f"| `{key}` | {_escaped(_type(field))} | {default} | "
            f"{_escaped(str(field.description))} |"
        )


def _is_plain(key: str, field: FieldInfo) -> bool:
    return key != "model" and _section(field.annotation) is None


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field holds, alone or in a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is tuple:
        return _section(get_args(annotation)[0])
    return None


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else toml_value(value)


def _type(field: FieldInfo) -> str:
    signs = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<"}
    limits = [
        f"{sign} {getattr(item, kind.__name__.lower())}"
        for item in field.metadata
        for kind, sign in signs.items()
        if isinstance(item, kind)
    ]
    return ", ".join([_type_name(field.annotation), *limits])


def _type_name(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return ""
    if origin is None:
        return str(getattr(annotation, "__name__", annotation)).replace("str", "text")
    if origin is tuple:
        inner = [_type_name(part) for part in parts if part is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in parts else f"[{', '.join(inner)}]"
    if origin is dict:
        return "table"
    name = str(getattr(origin, "__name__", origin))
    if name == "Literal":
        return " | ".join(f'"{part}"' if isinstance(part, str) else str(part) for part in parts)
    if name == "Annotated":
        return _type_name(parts[0])
    return " | ".join(filter(None, map(_type_name, parts)))


def _first_line(thing: type) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
