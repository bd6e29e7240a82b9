"""The manifest refuses what cannot be true of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from cellseg.runtime.bundles.manifest import Manifest, ModelCard, Variant, manifest_schema
from tests.bundles import card_fields, make_manifest, variant_fields

if TYPE_CHECKING:
    from pathlib import Path

VARIANT = variant_fields(b"x")


def test_schema_file_is_current(repository: Path) -> None:
    kept = repository / "docs" / "schema" / "bundle.schema.json"
    assert kept.read_text(encoding="utf-8") == manifest_schema(), (
        "write it again: python -c 'from cellseg.runtime.bundles.manifest import manifest_schema; "
        'print(manifest_schema(), end="")\' > docs/schema/bundle.schema.json'
    )


def test_manifest_survives_its_own_bytes() -> None:
    manifest = make_manifest(VARIANT, mpp=0.5, threshold=0.4)
    assert Manifest.model_validate_json(manifest.to_bytes()) == manifest
    assert b'"schema": "cellseg.bundle/1"' in manifest.to_bytes()


def test_agreement_is_written_only_where_it_was_measured() -> None:
    assert b"agreement" not in make_manifest(VARIANT).to_bytes()  # older versions read it
    agreement = {"tiles": 9, "dice": {"nucleus": 0.995}, "object_f1": 0.99, "count_drift": 0.02}
    manifest = make_manifest(VARIANT | {"agreement": [agreement]})
    assert Manifest.model_validate_json(manifest.to_bytes()) == manifest
    assert manifest.variants[0].agreement[0].kept == pytest.approx(0.98)
    assert manifest.variants[0].retained == 1.0  # fp32 is what others are held against


def test_agreement_names_classes_of_the_model() -> None:
    unknown = {"tiles": 9, "dice": {"vacuole": 0.995}}
    with pytest.raises(ValidationError, match="dice must name classes"):
        make_manifest(VARIANT | {"agreement": [unknown]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clases": []}, "clases"),
        ({"stride": 0}, "stride"),
        ({"name": "../evil"}, "name"),
        ({"mpp": 0.0}, "mpp"),
        ({"mpp": float("nan")}, "mpp"),
        ({"input": {"fit": "whole"}}, "fit_px is for fit whole and both"),
        ({"input": {"fit_px": [512, 512]}}, "fit_px is for fit whole and both"),
        ({"input": {"fit": "whole", "fit_px": [0, 512]}}, "fit_px"),
        ({"channels": [{"name": "a", "class_index": 1}]}, "channels must cover every class"),
        (
            {"channels": [{"name": str(i), "class_index": i} for i in range(3)]},
            "channels must cover every class and no other",
        ),
        (
            {"channels": [{"name": "a", "class_index": i} for i in range(2)]},
            "each channel must have its own name",
        ),
        (
            {
                "head": {
                    "kind": "softmax",
                    "instances": {
                        "kind": "interior-border",
                        "interior_channel": 2,
                        "seed_threshold": 0.5,
                        "min_area_px": 10,
                    },
                }
            },
            "interior_channel must be one of the channels",
        ),
        ({"input": {"normalize": {"kind": "none", "low": 5, "high": 5}}}, "low must be < high"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_card_that_cannot_be_true_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelCard.model_validate(card_fields(**changes))


def test_threshold_with_three_classes_is_refused() -> None:
    names = ["background", "a", "b"]
    with pytest.raises(ValidationError, match="threshold is for two classes"):
        ModelCard.model_validate(
            card_fields(
                classes=[{"name": name, "color": [0, 0, 0]} for name in names],
                channels=[{"name": name, "class_index": i} for i, name in enumerate(names)],
                threshold=0.5,
            )
        )


def test_sigmoid_head_needs_no_background_channel() -> None:
    channels = [{"name": "nucleus", "class_index": 1}, {"name": "distance"}]
    card = ModelCard.model_validate(card_fields(head={"kind": "sigmoid"}, channels=channels))
    assert card.channels[1].class_index is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"halo_px": 5}, "multiple of the stride"),
        ({"halo_px": 4, "receptive_field_px": 6}, "must cover the receptive field"),
        ({"schema": "cellseg.bundle/2"}, "schema"),
    ],
    ids=["halo off the stride", "halo too small", "another schema"],
)
def test_halo_or_schema_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_manifest(VARIANT, **changes)


def test_halo_below_the_receptive_field_is_allowed_with_a_tolerance() -> None:
    manifest = make_manifest(VARIANT, receptive_field_px=1000, halo_tolerance=0.01)
    assert manifest.halo_px < manifest.receptive_field_px


@pytest.mark.parametrize("file", ["../m.onnx", "a/m.onnx", "C:m.onnx", ".m.onnx", "m.tflite", ""])
def test_variant_with_a_file_name_that_leads_elsewhere_is_refused(file: str) -> None:
    with pytest.raises(ValidationError, match="plain name"):
        Variant.model_validate(VARIANT | {"file": file})


def test_retained_quality_is_the_worst_ratio_and_unknown_without_evidence() -> None:
    int8 = VARIANT | {"precision": "int8", "scheme": "u8s8"}
    measured = int8 | {"vs_fp32": {"dice_ratio": 0.999, "object_f1_ratio": 0.98}}
    drifted = int8 | {"vs_fp32": {"dice_ratio": 0.999, "count_drift": 0.03}}
    assert Variant.model_validate(VARIANT).retained == 1.0
    assert Variant.model_validate(int8).retained is None
    assert Variant.model_validate(measured).retained == 0.98
    assert Variant.model_validate(drifted).retained == 0.97
