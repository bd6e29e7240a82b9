"""Gamma, sharpening and colour are layers: as OpenCV computes them, in every exported file."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")
pytest.importorskip("onnxruntime")

from keras import layers  # noqa: E402

from cellseg.export.from_keras.model import onnx_from_keras  # noqa: E402
from cellseg.export.onnx_graph.reach import structural_reach  # noqa: E402
from cellseg.train.families.summary import macs  # noqa: E402
from cellseg.train.networks.front import with_front  # noqa: E402
from cellseg.train.sections import InputRecipe  # noqa: E402
from tests.export.graphs import run_onnx  # noqa: E402
from tests.export.networks import ignore_keras_warnings, run_keras  # noqa: E402

pytestmark = ignore_keras_warnings

# OpenCV rounds to bytes, and its Lab goes through tables.
CONVERSIONS = {
    "bgr": (cv2.COLOR_RGB2BGR, 0.01),
    "xyz": (cv2.COLOR_RGB2XYZ, 0.6),
    "ycrcb": (cv2.COLOR_RGB2YCrCb, 0.8),
    "yuv": (cv2.COLOR_RGB2YUV, 0.9),
    "hsv": (cv2.COLOR_RGB2HSV, 0.6),
    "lab": (cv2.COLOR_RGB2LAB, 1.6),
}


def pixels() -> np.ndarray:
    """Random colours with greys, primaries, black and white among them."""
    image = np.random.default_rng(0).integers(0, 256, (1, 24, 16, 3)).astype(np.uint8)
    image[0, 0] = np.arange(16)[:, None] * 17
    image[0, 1, :8] = [[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    return image


def fronted(**values: Any) -> keras.Model:
    """Put a front before a network that gives back what it sees."""
    image = layers.Input((None, None, 3), name="image")
    body = keras.Model(image, layers.Identity(name="classes")(image))
    return with_front(body, InputRecipe.model_validate(values))


@pytest.mark.parametrize("space", CONVERSIONS)
def test_a_colour_space_is_that_of_opencv(space: str) -> None:
    image = pixels()
    code, within = CONVERSIONS[space]
    found = run_keras(fronted(color=space), image)[0]
    apart = np.abs(found - cv2.cvtColor(image[0], code))
    if space == "hsv":
        apart[..., 0] = np.minimum(apart[..., 0], 180 - apart[..., 0])  # a hue of 180 is one of 0
    assert apart.max() < within


def test_gamma_is_a_table_of_bytes_without_its_rounding() -> None:
    image = pixels()
    found = run_keras(fronted(gamma=0.5), image)
    np.testing.assert_allclose(found, 255 * (image / 255.0) ** 0.5, atol=2e-4)


def test_a_network_behind_a_front_is_counted_as_without_it() -> None:
    image = layers.Input((None, None, 3), name="image")
    body = keras.Model(image, layers.Conv2D(4, 3, padding="same", name="classes")(image))
    bent = with_front(body, InputRecipe(gamma=1.6, color="lab"))
    assert macs(bent, 16, 8) == macs(body, 16, 8) == 16 * 8 * 3 * 4 * 9


def test_gamma_comes_before_sharpening_and_colour_last() -> None:
    image = pixels()
    names = [layer.name for layer in fronted(gamma=2.0, sharpen=0.2, color="lab").layers]
    assert [name for name in names if name in ("gamma", "sharpen", "color")] == [
        "gamma", "sharpen", "color",
    ]  # fmt: skip
    plain = fronted(gamma=1.0)
    np.testing.assert_array_equal(run_keras(plain, image), image)


@pytest.mark.parametrize("front", [{"color": "hsv"}, {"color": "lab", "gamma": 2.2}], ids=str)
def test_the_exported_graph_holds_the_front_and_sees_no_farther(front: dict[str, Any]) -> None:
    model, image = fronted(**front), pixels()
    graph = onnx_from_keras(model)
    np.testing.assert_allclose(run_onnx(graph, image), run_keras(model, image), atol=2e-3)
    assert [reach.radius_px for reach in structural_reach(graph)] == [0, 0]


@pytest.mark.parametrize("front", [{"color": "hsv"}, {"color": "lab", "gamma": 2.2}], ids=str)
def test_a_tflite_file_holds_the_front(front: dict[str, Any]) -> None:
    pytest.importorskip("tensorflow")
    pytest.importorskip("ai_edge_litert")
    from cellseg.export.targets.tflite import float_tflite
    from tests.export.targets.test_tflite import run_litert

    model, image = fronted(**front), pixels()
    data = float_tflite(onnx_from_keras(model))
    np.testing.assert_allclose(run_litert(data, image[0]), run_keras(model, image)[0], atol=2e-3)


def test_a_fronted_network_is_saved_trained_and_read_back(tmp_path: Any) -> None:
    image = layers.Input((None, None, 3), name="image")
    scaled = layers.Rescaling(1 / 255)(image)
    body = keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid", name="classes")(scaled))
    model = with_front(body, InputRecipe(gamma=0.5, color="lab"))
    model.compile("sgd", "binary_crossentropy")
    pictures = pixels().astype(np.float32)
    loss = model.train_on_batch(pictures, pictures[..., :1] / 255)
    assert np.isfinite(loss)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(run_keras(model, pixels()), run_keras(again, pixels()))


def test_lab_is_that_of_scikit_image() -> None:
    color = pytest.importorskip("skimage.color")
    expected = color.rgb2lab(pixels()[0]) * (2.55, 1, 1) + (0, 128, 128)
    np.testing.assert_allclose(run_keras(fronted(color="lab"), pixels())[0], expected, atol=0.05)
