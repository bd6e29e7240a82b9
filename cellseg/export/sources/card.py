"""Finds what a training run left behind: the Keras file, and what ``model.json`` says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cellseg.errors import ExportError
from cellseg.runtime.bundles.manifest import ModelCard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["CARD_FILE", "KERAS_FILE", "keep_channels", "locate_run", "read_card"]

KERAS_FILE = "best.keras"
CARD_FILE = "model.json"


def locate_run(path: Path) -> tuple[Path, Path]:
    """Return the Keras file and the model card of a run folder or ``.keras`` file.

    Raises
    ------
    ExportError
        If one of the two is missing.
    """
    keras_file = path / KERAS_FILE if path.is_dir() else path
    card_file = keras_file.parent / CARD_FILE
    for file in (keras_file, card_file):
        if not file.is_file():
            raise ExportError(
                f"A run must hold {KERAS_FILE} and {CARD_FILE}. Received: no {file}.",
                hint="Train with 'cellseg-cli train', or write model.json beside the .keras file.",
            )
    return keras_file, card_file


def read_card(path: Path) -> ModelCard:
    """Read a model card.

    Raises
    ------
    ExportError
        If it does not follow the schema; the first wrong field is named.
    """
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ExportError(
            f"{path.name} must follow the manifest's schema. Received: {where}: {first['msg']}.",
            hint="See docs/schema/bundle.schema.json.",
        ) from error


def keep_channels(card: ModelCard, names: Sequence[str] | None) -> tuple[ModelCard, list[int]]:
    """Leave some output channels out of a card.

    Parameters
    ----------
    card : ModelCard
        Names every channel of the network.
    names : sequence of str or None
        Channels to keep; None: all.

    Returns
    -------
    ModelCard
        With the kept channels, in the network's order.
    list of int
        Their indices in the network.
    """
    known = [item.name for item in card.channels]
    if names is None:
        return card, list(range(len(known)))
    unknown = sorted(set(names) - set(known))
    if unknown or not names:
        raise ExportError(f"Channels to keep must be among {known}. Received: {list(names)}.")
    indices = [index for index, name in enumerate(known) if name in names]
    fields: dict[str, Any] = card.model_dump()
    fields["channels"] = [fields["channels"][index] for index in indices]
    rule = fields["head"]["instances"]
    if rule is not None:
        if rule["interior_channel"] not in indices:
            raise ExportError(
                "The channel that instances grow from must be kept. "
                f"Received: {list(names)} without {known[rule['interior_channel']]!r}."
            )
        rule["interior_channel"] = indices.index(rule["interior_channel"])
    try:
        return ModelCard.model_validate(fields), indices
    except ValidationError as error:
        raise ExportError(
            f"Kept channels must cover every class. Received: {list(names)}."
        ) from error
