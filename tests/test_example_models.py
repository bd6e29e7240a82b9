"""Models beside the package open, and state their licence and quality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cellseg import Segmenter
from cellseg.runtime.bundles.bundle import Bundle

MODELS = sorted((Path(__file__).resolve().parents[1] / "examples" / "models").glob("*.cellseg"))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_variant_has_a_measured_quality_and_a_licence(path: Path) -> None:
    manifest = Bundle.open(path).manifest
    assert manifest.license
    assert path.stat().st_size < 20e6
    assert all(variant.quality for variant in manifest.variants)


def test_blood_segments_a_smear_into_three_classes(shared_data: Path) -> None:
    import cv2

    folder = shared_data / "wbc_tecom" / "test"
    image = cv2.imread(str(folder / "images" / "002.png"))[..., ::-1]
    truth = cv2.imread(str(folder / "masks" / "002.png"), cv2.IMREAD_UNCHANGED)
    model = next(path for path in MODELS if path.stem == "blood")
    with Segmenter.load(model, engine="onnxruntime", precision="fp32") as segmenter:
        found = segmenter(np.ascontiguousarray(image))
    assert found.class_names == ("background", "cytoplasm", "nucleus")
    assert found.labels is None
    assert (found.classes == truth).mean() > 0.9
