"""What a training run says of its model is read once, and checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cellseg.errors import ExportError
from cellseg.export.sources.card import keep_channels, locate_run, read_card
from cellseg.runtime.bundles.bundle import ModelCard
from tests.fakes import card_fields

if TYPE_CHECKING:
    from pathlib import Path


def card_with_distance(**changes: Any) -> ModelCard:
    names = [("distance", None), ("background", 0), ("interior", 1), ("border", 1)]
    rule = {
        "kind": "interior-border", "interior_channel": 2, "seed_threshold": 0.5, "min_area_px": 9,
    }  # fmt: skip
    channels = [{"name": name, "class_index": index} for name, index in names]
    head = {"kind": "softmax", "instances": rule}
    return ModelCard.model_validate(card_fields(channels=channels, head=head, **changes))


def test_run_folder_and_keras_file_are_found_alike(tmp_path: Path) -> None:
    for name in ("best.keras", "model.json"):
        (tmp_path / name).touch()
    assert locate_run(tmp_path) == locate_run(tmp_path / "best.keras")


@pytest.mark.parametrize("missing", ["best.keras", "model.json"])
def test_run_that_lacks_a_file_is_refused(tmp_path: Path, missing: str) -> None:
    for name in {"best.keras", "model.json"} - {missing}:
        (tmp_path / name).touch()
    with pytest.raises(ExportError, match=missing):
        locate_run(tmp_path)


def test_misspelled_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(card_fields(streid=8)))
    with pytest.raises(ExportError, match=r"model\.json must follow.*streid"):
        read_card(path)


def test_channels_keep_the_order_of_the_network_and_the_rule_follows() -> None:
    card, indices = keep_channels(card_with_distance(), ["border", "background", "interior"])
    assert indices == [1, 2, 3]
    assert [item.name for item in card.channels] == ["background", "interior", "border"]
    assert card.head.instances is not None
    assert card.head.instances.interior_channel == 1


def test_all_channels_are_kept_unless_named() -> None:
    card = card_with_distance()
    assert keep_channels(card, None) == (card, [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nonsense"], "must be among"),
        ([], "must be among"),
        (["background", "border"], "instances grow from must be kept"),
        (["interior", "border"], "must cover every class"),
    ],
    ids=["unknown", "none", "no interior", "no background"],
)
def test_channels_that_the_bundle_needs_cannot_be_dropped(names: list[str], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        keep_channels(card_with_distance(), names)
