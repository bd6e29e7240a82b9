"""``[model]``: the keys of its family (`cellseg.train.families.params`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, create_model

from cellseg.train.families import FAMILIES

if TYPE_CHECKING:
    from cellseg.train.families.params import FamilyParams

__all__ = ["DEFAULT_FAMILY", "FAMILY_MODELS", "ModelRecipe"]

DEFAULT_FAMILY = "stem-unet"


def _family_model(name: str, params: type[FamilyParams]) -> type[FamilyParams]:
    title = "".join(part.capitalize() for part in name.split("-")) + "Model"
    tag: Any = (Literal[name], Field(name, description="model family"))
    return create_model(title, __base__=params, __doc__=params.__doc__, family=tag)


FAMILY_MODELS = {name: _family_model(name, row.params) for name, row in FAMILIES.items()}

if TYPE_CHECKING:
    ModelRecipe = FamilyParams
else:
    ModelRecipe = Annotated[
        Union[tuple(FAMILY_MODELS.values())],  # noqa: UP007 (a computed union)
        Field(discriminator="family"),
    ]
