"""The training recipe: one TOML file says everything that a run depends on.

Every key has a default and its unit in the description (`cellseg.train.sections`); an unknown key
is an error that names the nearest known one. A recipe is looked up by name among the shipped ones
(``nuclei``) or by path; a seed's INI file is one, too (`cellseg.train.seed`).
"""

from __future__ import annotations

import difflib
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from cellseg.errors import DataError, RecipeError
from cellseg.train.sections import FAMILY_MODELS, Recipe
from cellseg.train.seed.convert import convert_config, is_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from cellseg.runtime.bundles.bundle import Bundle

__all__ = [
    "check_recipe",
    "data_folder",
    "describe_recipe",
    "load_recipe",
    "read_run_recipe",
    "recipe_of_bundle",
    "recipe_of_run",
    "recipe_path",
    "recipe_schema",
    "run_folder",
    "shipped_recipes",
]

log = logging.getLogger("cellseg.train")

RECIPES_DIR = Path(__file__).parent


def shipped_recipes() -> list[str]:
    """Names of the recipes inside the package."""
    return sorted(path.stem for path in RECIPES_DIR.glob("*.toml"))


def recipe_path(name_or_path: str | Path) -> Path:
    """Find a recipe's file.

    Raises
    ------
    RecipeError
        If there is neither a file nor a shipped recipe of that name.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml" and not is_config(path):
        path = RECIPES_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        shipped = shipped_recipes()
        near = difflib.get_close_matches(str(name_or_path), shipped, n=1, cutoff=0.6)
        raise RecipeError(
            "a recipe is a TOML file, a seed's .config file or a shipped name. "
            f"Received: {name_or_path}.",
            hint=f"did you mean '{near[0]}'?"
            if near
            else f"shipped recipes: {', '.join(shipped)}.",
        )
    return path


def load_recipe(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe.

    Parameters
    ----------
    name_or_path : str or Path
        A shipped recipe's name, a TOML file or a seed's INI file.
    overrides : dict, optional
        Dotted keys that replace values of the file: ``{"fit.epochs": 2}``.

    Raises
    ------
    RecipeError
        If the file is missing, cannot be read, or a key or value is wrong.
    """
    path = recipe_path(name_or_path)
    if is_config(path):
        conversion = convert_config(path)
        for note in conversion.notes:
            log.info("%s: %s", path.name, note)
        for note in conversion.unused:
            log.debug("%s: %s", path.name, note)
        tree = conversion.tree
    else:
        tree = _read_toml(path)
    for dotted, value in (overrides or {}).items():
        _set(tree, dotted, value)
    return check_recipe(tree, path)


def data_folder(name_or_path: str | Path, data: Path | None) -> Path:
    """Return the folder that a recipe's paths start from: ``--data``, else the file's own.

    Raises
    ------
    RecipeError
        If a shipped recipe comes without ``data``.
    """
    if data is not None:
        return data
    path = recipe_path(name_or_path)
    if path.parent == RECIPES_DIR:
        raise RecipeError(
            f"a shipped recipe needs the folder of its data. Received: {name_or_path}, no --data.",
            hint=f"cellseg-cli train {name_or_path} --data FOLDER",
        )
    return path.parent


def run_folder(recipe: Recipe, home: Path, out: Path | None = None) -> Path:
    """Return where a recipe's run lies: ``out``, else as the recipe says, else runs/<name>.

    ``home`` is the folder of the recipe's file: a run is no part of its data.
    """
    if out is not None:
        return out
    return Path("runs") / recipe.name if recipe.run is None else home / recipe.run


def recipe_of_run(run: Path, asked: Recipe) -> Recipe:
    """Return the recipe that a run was trained with, applied to the images that are asked for.

    Network, input and classes are the run's; sources and folders are those of ``asked``.

    Raises
    ------
    RecipeError
        If the run's ``recipe.json`` cannot be read.
    """
    path = run / "recipe.json"
    if not path.is_file():
        return asked
    trained = check_recipe(read_run_recipe(path), path)
    ours = {"sources": asked.sources, "infer": asked.infer, "run": asked.run}
    return trained.model_copy(update=ours)


def read_run_recipe(path: Path) -> dict[str, Any]:
    """Read the ``recipe.json`` of a run.

    Raises
    ------
    RecipeError
        If it cannot be read.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise RecipeError(
            f"a run's recipe must be JSON. Received: {path}: {error}.",
            hint="model.json beside it holds the recipe, too, as provenance.recipe; or train in "
            "another folder.",
        ) from error


def recipe_of_bundle(bundle: Bundle) -> Recipe:
    """Return the recipe that a bundle's model was trained with.

    Raises
    ------
    DataError
        If the bundle does not say: it was made from a file of another origin.
    RecipeError
        If its recipe is not one of this version.
    """
    tree = bundle.manifest.provenance.get("recipe")
    if not isinstance(tree, dict):
        raise DataError(
            "training goes on from bundles that were trained with a recipe. "
            f"Received: {bundle.path.name}, which names none.",
            hint="begin with its Keras file, if there is one: --from model.keras",
        )
    return check_recipe(tree, bundle.path)


def check_recipe(tree: dict[str, Any], path: Path) -> Recipe:
    """Validate what a file holds; ``path`` is for messages.

    Raises
    ------
    RecipeError
        Which names the file and the first key that is wrong, and the nearest known one.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise _explain(path, error, tree) from error


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe's TOML, for editors."""
    schema = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}.") from error


def _set(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise RecipeError(f"a setting names a key of a section. Received: {dotted}.")
    tree[leaf] = value


def _explain(path: Path, error: ValidationError, tree: dict[str, Any]) -> RecipeError:
    # A misspelled key comes first: it may be the one that is missing.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    location = tuple(part for part in first["loc"] if part not in FAMILY_MODELS)
    where = ".".join(str(part) for part in location)
    if first["type"] == "union_tag_invalid":
        family = str(tree["model"]["family"])
        near = difflib.get_close_matches(family, FAMILY_MODELS, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else None
        known = ", ".join(FAMILY_MODELS)
        return RecipeError(
            f"{path}: model.family must be one of {known}. Received: family={family!r}.", hint=hint
        )
    if first["type"] == "missing":
        return RecipeError(
            f"{path}: a recipe must state {where}.",
            hint="cellseg-cli recipe list names recipes to start from.",
        )
    if first["type"] != "extra_forbidden":
        place = f"{path}: {where}: " if where else f"{path}: "
        received = f" Received: {first['input']!r}." if where else ""
        if first["type"] == "value_error":
            received = ""  # the rule says what it is about
        return RecipeError(f"{place}{first['msg'].removeprefix('Value error, ')}.{received}")
    known_keys = _known_keys(first["loc"][:-1], tree)
    near = difflib.get_close_matches(str(location[-1]), known_keys, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known_keys)}."
    return RecipeError(f"{path}: unknown key '{where}'.", hint=hint)


def _known_keys(location: tuple[int | str, ...], tree: dict[str, Any]) -> list[str]:
    section: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        if part in FAMILY_MODELS:
            section = FAMILY_MODELS[str(part)]
            continue
        if part == "model" and section is Recipe:
            continue
        section = _section_of(section.model_fields[part].annotation)
    return list(section.model_fields)


def _section_of(annotation: Any) -> Any:
    """Return the section inside ``Section``, ``tuple[Section, ...]`` or ``Section | None``."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation
    return _section_of(get_args(annotation)[0])


def describe_recipe(recipe: Recipe) -> str:
    """Set out every key with its value and what it means, a section a paragraph."""
    lines = [f"recipe {recipe.name}"]
    for name, section in recipe:
        parts = section if isinstance(section, tuple) else (section,)
        for part in parts:
            if isinstance(part, BaseModel):
                lines += ["", f"[{name}]", *_describe_section(part)]
    return "\n".join(lines)


def _describe_section(section: BaseModel) -> list[str]:
    fields = type(section).model_fields
    return [f"  {key} = {value!r}  ({fields[key].description})" for key, value in section]
