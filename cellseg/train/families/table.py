"""The model families by name: what can be chosen of each, who invented it, where it is built.

The table is read without Keras, so that recipes are checked and documented without it; a family's
module, which needs Keras, is imported when a model is built.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from cellseg.errors import RecipeError
from cellseg.train.families import params as p

if TYPE_CHECKING:
    from collections.abc import Mapping

    import keras

__all__ = ["FAMILIES", "HEADS", "Family", "Head", "build_model", "family_named", "parse_params"]

Head = Literal["auto", "sigmoid", "softmax", "softmax+distance"]
HEADS: tuple[Head, ...] = ("auto", "sigmoid", "softmax", "softmax+distance")


@dataclass(frozen=True)
class Family:
    """One row of the table."""

    name: str
    """As recipes name it."""

    title: str
    """As the literature names it."""

    params: type[p.FamilyParams]
    """What can be chosen, with defaults."""

    module: str
    """Module of this package that holds ``build(params, classes, input_channels, head)``."""

    source: str
    """Where it was published."""


_ROWS = (
    Family("unet", "UNet", p.UNetParams, "unet", "Ronneberger, Fischer, Brox, U-Net, MICCAI 2015"),
    Family(
        "flex-unet",
        "UNet, multi-class",
        p.UNetParams,
        "unet",
        "Ronneberger, Fischer, Brox, U-Net, MICCAI 2015; softmax where there are classes",
    ),
    Family(
        "stem-unet",
        "UNet behind a stem",
        p.StemUNetParams,
        "stem_unet",
        "Ronneberger, Fischer, Brox, U-Net, MICCAI 2015; BatchNorm and a stride-2 stem are ours",
    ),
    Family(
        "attention-unet",
        "Attention UNet",
        p.AttentionUNetParams,
        "attention_unet",
        "Oktay et al., Attention U-Net, MIDL 2018",
    ),
    Family(
        "multires-unet",
        "MultiResUNet",
        p.MultiResUNetParams,
        "multires_unet",
        "Ibtehaz and Rahman, MultiResUNet, Neural Networks 121, 2020",
    ),
    Family(
        "unet3plus",
        "UNet 3+",
        p.UNet3PlusParams,
        "unet3plus",
        "Huang et al., UNet 3+, ICASSP 2020",
    ),
    Family(
        "efficient-unet",
        "EfficientUNet",
        p.EfficientUNetParams,
        "efficient_unet",
        "Tan and Le, EfficientNet, ICML 2019, as the encoder of a UNet",
    ),
    Family(
        "lite-unet",
        "LiteUNet",
        p.LiteUNetParams,
        "lite_unet",
        "Liu, EfficientNet-Lite, TensorFlow blog 2020, as the encoder of a UNet",
    ),
    Family(
        "deeplab-v3plus",
        "DeepLabV3+",
        p.DeepLabParams,
        "deeplab",
        "Chen et al., Encoder-Decoder with Atrous Separable Convolution, ECCV 2018",
    ),
    Family(
        "swin-unet",
        "Swin-UNet",
        p.SwinUNetParams,
        "swin_unet",
        "Cao et al., Swin-Unet, ECCV Workshops 2022; Liu et al., Swin Transformer, ICCV 2021",
    ),
)

FAMILIES: dict[str, Family] = {row.name: row for row in _ROWS}
"""Name to family, in the order of the documentation."""


def family_named(name: str) -> Family:
    """Look a family up.

    Raises
    ------
    RecipeError
        If there is none of that name; the nearest one is named.
    """
    if name not in FAMILIES:
        near = difflib.get_close_matches(name.lower(), FAMILIES, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else None
        raise RecipeError(
            f"family must be one of {', '.join(FAMILIES)}. Received: family={name!r}.", hint=hint
        )
    return FAMILIES[name]


def parse_params(name: str, values: Mapping[str, Any]) -> p.FamilyParams:
    """Check what was chosen of a family.

    Parameters
    ----------
    name : str
        Key of `FAMILIES`.
    values : mapping
        Parameter to value; what is left out has its default.

    Raises
    ------
    RecipeError
        If the family or a parameter is unknown, or a value impossible; it is named.
    """
    family = family_named(name)
    try:
        return family.params.model_validate(dict(values))
    except ValidationError as error:
        raise _explain(family, error) from error


def build_model(
    name: str,
    params: p.FamilyParams | Mapping[str, Any] | None = None,
    classes: int = 1,
    input_channels: int = 3,
    head: Head = "auto",
) -> keras.Model:
    """Build a network with random weights.

    Parameters
    ----------
    name : str
        Key of `FAMILIES`.
    params : FamilyParams or mapping, optional
        What is chosen of it.
    classes : int
        Output channels: 1 is the foreground alone; with more, background is the first.
    input_channels : int
        Channels of the image; a bundle needs 3.
    head : str
        ``sigmoid``, ``softmax``, ``softmax+distance`` (one sigmoid channel more, the distance to
        the border), or ``auto``: sigmoid for one class, else softmax.

    Returns
    -------
    keras.Model
        float32 (N, H, W, input_channels), 0..255, to float32 (N, H, W, C); H and W are any
        multiples of ``params.stride``.

    Raises
    ------
    RecipeError
        If something asked for does not exist or does not fit.
    """
    family = family_named(name)
    known = params if isinstance(params, p.FamilyParams) else parse_params(name, params or {})
    _check_request(family, known, classes, input_channels, head)
    wanted = ("sigmoid" if classes == 1 else "softmax") if head == "auto" else head
    module = import_module(f"cellseg.train.families.{family.module}")
    return module.build(known, classes, input_channels, wanted)


def _check_request(
    family: Family, params: p.FamilyParams, classes: int, input_channels: int, head: str
) -> None:
    if not isinstance(params, family.params):
        raise RecipeError(
            f"{family.name} takes {family.params.__name__}. Received: {type(params).__name__}."
        )
    for name, value in (("classes", classes), ("input_channels", input_channels)):
        if value < 1:
            raise RecipeError(f"{name} must be >= 1. Received: {name}={value}.")
    if head not in HEADS:
        raise RecipeError(f"head must be one of {', '.join(HEADS)}. Received: head={head!r}.")
    if head.startswith("softmax") and classes < 2:
        raise RecipeError(
            f"softmax needs at least two classes, background included. Received: classes={classes}."
        )


def _explain(family: Family, error: ValidationError) -> RecipeError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        place = f"{family.name}: {where}: " if where else f"{family.name}: "
        received = f" Received: {first['input']!r}." if where else ""
        return RecipeError(f"{place}{first['msg']}.{received}".replace("..", "."))
    known = list(family.params.model_fields)
    near = difflib.get_close_matches(where, known, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}."
    return RecipeError(f"{family.name} has no parameter '{where}'.", hint=hint)
