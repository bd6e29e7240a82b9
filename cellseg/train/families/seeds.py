"""The seeds' names: which family a ``[model] model`` means, and which parameter each key sets.

>>> seed_family("TensorflowUNet", {"base_filters": 16, "base_kernels": (7, 7), "num_layers": 7})
('unet', {'base_filters': 16, 'base_kernel': 7, 'levels': 7})
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cellseg.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SEED_FAMILIES", "SeedFamily", "seed_family"]


@dataclass(frozen=True)
class SeedFamily:
    """What one class of the seeds becomes."""

    family: str
    """Key of `FAMILIES`."""

    keys: Mapping[str, str]
    """Key of the section ``[model]`` to parameter; other keys do nothing in this class."""

    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that the class sets whatever the file says."""


_UNET_KEYS = {
    "base_filters": "base_filters",
    "base_kernels": "base_kernel",
    "num_layers": "levels",
    "dropout_rate": "dropout_rate",
    "dilation": "dilation",
    "activation": "activation",
    "normalization": "normalization",
    "input_normalize": "input_range",
}
_PLAIN_KEYS = {"base_filters": "base_filters", "num_layers": "levels"}

SEED_FAMILIES: dict[str, SeedFamily] = {
    "TensorflowUNet": SeedFamily("unet", _UNET_KEYS),
    "TensorFlowFlexUNet": SeedFamily("flex-unet", _UNET_KEYS),
    "TensorflowAttentionUNet": SeedFamily(
        "attention-unet",
        {**_PLAIN_KEYS, "dropout_rate": "dropout_rate"},
        {"input_range": "0..255"},
    ),
    "TensorflowMultiResUNet": SeedFamily("multires-unet", _PLAIN_KEYS),
    "TensorflowUNet3Plus": SeedFamily("unet3plus", {**_PLAIN_KEYS, "dropout_rate": "dropout_rate"}),
    "TensorflowEfficientUNet": SeedFamily("efficient-unet", {"efficientnet": "backbone"}),
    "TensorflowDeepLabV3Plus": SeedFamily("deeplab-v3plus", {}, {"input_range": "0..255"}),
    "TensorflowSwinUNet": SeedFamily(
        "swin-unet",
        {
            "filter_num_begin": "base_filters",
            "depth": "levels",
            "stack_num_down": "blocks",
            "patch_size": "patch_px",
            "num_heads": "heads",
            "window_size": "windows",
            "num_mlp": "mlp_filters",
            "shift_window": "shift",
        },
    ),
}
"""The seeds' class names; there the case of "flow" varies, so look-ups ignore case."""


def seed_family(model: str, section: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Translate the section ``[model]`` of a seed's file.

    Parameters
    ----------
    model : str
        The seed's class, e.g. ``TensorflowUNet``.
    section : mapping
        Parsed values of ``[model]``.

    Returns
    -------
    str
        Key of `FAMILIES`.
    dict
        Its parameters, unchecked; what the file leaves out is left out.

    Raises
    ------
    RecipeError
        If the class has no family here; the nearest one is named.
    """
    by_lower = {name.lower(): row for name, row in SEED_FAMILIES.items()}
    row = by_lower.get(model.lower())
    if row is None:
        near = difflib.get_close_matches(model, SEED_FAMILIES, n=1, cutoff=0.4)
        raise RecipeError(
            f"[model] model must be one of {', '.join(SEED_FAMILIES)}. Received: {model}.",
            hint=f"the nearest one is {near[0]}." if near else None,
        )
    found = {
        ours: _translated(ours, section[key]) for key, ours in row.keys.items() if key in section
    }
    return row.family, found | dict(row.fixed)


def _translated(parameter: str, value: Any) -> Any:
    """Bring one value into our form: pairs to a side, flags to names."""
    if parameter == "normalization":
        return "batch" if value else "none"
    if parameter == "input_range":
        return "0..1" if value else "0..255"
    if parameter in ("base_kernel", "dilation", "patch_px") and not isinstance(value, int):
        return _side(parameter, tuple(value))
    return tuple(value) if isinstance(value, list) else value


def _side(parameter: str, pair: tuple[int, ...]) -> int:
    if len(set(pair)) != 1:
        raise RecipeError(f"{parameter} must be a square. Received: {parameter}={pair}.")
    return int(pair[0])
