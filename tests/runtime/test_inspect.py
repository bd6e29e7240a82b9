from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cellseg.errors import BundleError
from cellseg.runtime.inspect import (
    describe_bundle,
    describe_slide,
    format_description,
    is_bundle_name,
)
from tests.bundles import make_bundle, make_manifest, tiny_onnx, variant_fields


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "field.png"
    cv2.imwrite(str(path), np.zeros((30, 40, 3), np.uint8))
    return path


def test_an_image_without_a_pixel_size_says_what_is_assumed(image: Path) -> None:
    facts = describe_slide(str(image))
    assert (facts["kind"], facts["mpp"], facts["mm"]) == ("image", None, None)
    assert "not stated; taken to be the model's" in format_description(facts)


def test_a_given_pixel_size_gives_the_extent(image: Path) -> None:
    facts = describe_slide(str(image), mpp=0.5)
    assert facts["mm"] == pytest.approx([0.02, 0.015])
    assert "40 x 30 px, 0.02 x 0.01 mm" in format_description(facts)


def test_a_real_slide_is_told_with_levels_pixel_size_and_compression(repository: Path) -> None:
    facts = describe_slide(str(repository / "examples" / "cmu-1-small-region.svs"))
    assert facts["mpp"] == pytest.approx([0.499, 0.499], abs=1e-3)
    assert facts["levels"][0]["downsample"] == 1.0
    assert "jpeg" in format_description(facts)


def test_a_slide_without_a_pixel_size_asks_for_it(image: Path) -> None:
    facts = describe_slide(str(image)) | {"kind": "slide"}
    assert "not stated; give it with --mpp" in format_description(facts)


def test_a_bundle_is_told_with_its_geometry_and_identity(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny.cellseg")
    facts = describe_bundle(str(bundle.path))
    text = format_description(facts)
    assert facts["sha256"] == bundle.sha256
    assert "halo 4 px (exact; network reaches 2 px), multiples of 4 px" in text
    assert "nucleus #ffc800" in text
    assert json.loads(json.dumps(facts))["manifest"]["schema"] == "cellseg.bundle/1"


def description_of(variant: dict[str, Any]) -> str:
    """Describe a bundle of one variant."""
    facts = {
        "kind": "bundle",
        "path": "tiny.cellseg",
        "bytes": 1,
        "sha256": "0",
        "manifest": make_manifest(variant).model_dump(mode="json", by_alias=True),
    }
    return format_description(facts)


def test_the_quality_of_a_variant_is_told() -> None:
    quality = {"dataset": "dsb", "images": 39, "dice": {"nucleus": 0.9216}, "object_f1": 0.851}
    variant = variant_fields(
        tiny_onnx(), quality=[quality], vs_fp32={"dice_ratio": 0.998, "object_f1_ratio": 0.99}
    )
    text = description_of(variant)
    assert "keeps 99.8% of fp32's Dice, 99.0% of its F1" in text
    assert "dsb (39 images): Dice nucleus 0.922, object F1 0.851" in text


def test_agreement_is_not_told_as_quality() -> None:
    agreement = {
        "tiles": 64, "dice": {"nucleus": 0.9952}, "object_f1": 0.9871, "count_drift": 0.0021,
        "cells": 4012, "engine": "openvino",
    }  # fmt: skip
    variant = variant_fields(tiny_onnx(), agreement=[agreement])
    text = description_of(variant)
    assert (
        "agreement with fp32 (64 tiles, openvino): Dice nucleus 0.9952, object F1 0.9871, "
        "count drift 0.21% of 4012 cells; nobody's labels" in text
    )
    assert "keeps" not in text


def test_a_bundle_is_known_by_its_suffix_even_where_there_is_none() -> None:
    assert is_bundle_name("absent.cellseg")
    assert not is_bundle_name("slide.svs")
    with pytest.raises(BundleError, match="absent.cellseg"):
        describe_bundle("absent.cellseg")
