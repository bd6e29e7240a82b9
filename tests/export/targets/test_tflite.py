"""The .tflite files compute what Keras computes, at any size, and int8 ones in integers only."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("tensorflow")

import keras
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from onnx import helper

from cellseg.errors import ExportError
from cellseg.export.from_keras.model import onnx_from_keras
from cellseg.export.precisions.ranges import RANGE_METHODS, collect_distributions
from cellseg.export.sources.translate import plain_graph
from cellseg.export.targets import tflite
from cellseg.export.targets.tflite import float_tflite, int8_tflite, require_tensorflow
from tests.bundles import TINY_TFLITE, tiny_onnx
from tests.export.drawn_images import draw_discs
from tests.export.graphs import Sketch, noise, run_onnx
from tests.export.networks import ignore_keras_warnings, run_keras, single, unet

pytestmark = ignore_keras_warnings
UPS = ("nearest", "bilinear")
TILES = [draw_discs(seed, (64, 64))[0] for seed in range(4)]


def run_litert(data: bytes, image: np.ndarray[Any, Any]) -> Any:
    """Run one image; bytes that come out are turned to what they stand for."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(source["index"], (1, *image.shape), strict=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], image[np.newaxis])
    interpreter.invoke()
    values = interpreter.get_tensor(result["index"])[0]
    scale, zero = result["quantization"]
    return values if values.dtype == np.float32 else (values.astype(np.float32) - zero) * scale


@pytest.mark.parametrize("op", ["HardSigmoid", "HardSwish", "PRelu", "Exp", "Abs", "Neg"])
def test_operators_of_other_frameworks_are_told(op: str) -> None:
    sketch = Sketch().by_constant("Mul", 1 / 255).conv(2, 3).by_constant("Add", [-1.5, -2.0])
    slope = [sketch.constant(np.array([[[0.25]], [[0.5]]]), "slope")] if op == "PRelu" else []
    model = sketch.node(op, [sketch.value, *slope]).conv(2, 1).model()
    (image,) = images = noise(1, 16, 24)
    found = run_litert(float_tflite(model), image)
    np.testing.assert_allclose(found, run_onnx(model, images)[0], atol=1e-4)


RESIZES = [
    *(("linear", places, None) for places in ("half_pixel", "pytorch_half_pixel")),
    ("nearest", "asymmetric", "floor"),
    *(("nearest", "half_pixel", f"round_prefer_{way}") for way in ("floor", "ceil")),
    ("nearest", "pytorch_half_pixel", "round_prefer_floor"),
    *(("nearest", "asymmetric", f"round_prefer_{way}") for way in ("floor", "ceil")),
    *(("nearest", places, "ceil") for places in ("asymmetric", "half_pixel")),
]


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize(("mode", "places", "rounding"), RESIZES)
def test_a_resize_is_that_of_onnx_or_refused(
    mode: str, places: str, rounding: str | None, size: int
) -> None:
    sketch = Sketch().by_constant("Mul", 1 / 255).conv(3, 3)
    scales = sketch.constant(np.array([1, 1, size, size]), "scales")
    attributes = {} if rounding is None else {"nearest_mode": rounding}
    attributes |= {"mode": mode, "coordinate_transformation_mode": places}
    model = sketch.node("Resize", [sketch.value, "", scales], **attributes).model()
    (image,) = images = noise(1, 16, 24)
    moves = rounding == "ceil" or (
        places == "asymmetric"
        and (rounding, size) not in (("floor", size), ("round_prefer_floor", 2))
    )
    if moves and mode == "nearest":
        with pytest.raises(ExportError, match="copies of each pixel"):
            float_tflite(model)
        return
    np.testing.assert_allclose(
        run_litert(float_tflite(model), image), run_onnx(model, images)[0], atol=1e-5
    )


def test_a_stem_that_pads_its_pooling_is_told_in_integers() -> None:
    sketch = Sketch().by_constant("Mul", 1 / 255).conv(4, 3).by_constant("Add", -1.0).node("Relu")
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    model = sketch.node("MaxPool", **window).conv_transpose(2).node("Sigmoid").model()
    distributions = collect_distributions(model, TILES)
    expected = run_onnx(model, TILES[0][np.newaxis])[0]
    np.testing.assert_allclose(run_litert(float_tflite(model), TILES[0]), expected, atol=1e-5)
    found = run_litert(int8_tflite(model, distributions, "minmax"), TILES[0])
    assert np.abs(found - expected).max() < 0.03


@pytest.mark.parametrize(
    "options",
    [{}, {"stem": False}, {"up": "nearest"}, {"up": "bilinear"}, {"head": "two"}, {"offset": -1.0}],
    ids=str,
)
def test_float_file_is_keras_at_any_size(options: dict[str, Any]) -> None:
    model = unet(**options)
    channels = 4 if options.get("head") == "two" else 3
    data = float_tflite(plain_graph(model, range(channels), channels))
    for height, width in ((16, 32), (40, 24)):
        images = noise(1, height, width)
        found = run_litert(data, images[0])
        np.testing.assert_allclose(found, run_keras(model, images)[0], atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(3, 5, 2, "same"),
        layers.Conv2D(3, 3, 1, "same", dilation_rate=3),
        layers.Conv2D(6, 3, 1, "same", groups=3),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        layers.Conv2DTranspose(4, 3, 2, "same"),
        layers.Conv2DTranspose(4, 4, 2, "same"),
        layers.Conv2DTranspose(4, 5, 3, "same"),
        layers.Conv2DTranspose(4, 3, 1, "same"),
        layers.AveragePooling2D(3, 1, "same"),
        layers.MaxPooling2D(3, 2, "same"),
        layers.ReLU(max_value=0.3),
        layers.LeakyReLU(negative_slope=0.3),
        layers.Softmax(),
        layers.Activation("silu"),
        layers.Activation("tanh"),
        layers.Activation("elu"),
        layers.Activation("relu6"),
        layers.UpSampling2D(3, interpolation="nearest"),
        layers.UpSampling2D(4, interpolation="bilinear"),
        layers.BatchNormalization(),
    ],
    ids=lambda layer: layer.name,
)
def test_layer_is_that_of_keras(layer: Any) -> None:
    model, images = single(layers.Rescaling(1 / 100, -1.0), layer), noise(1, 12, 18)
    found = run_litert(float_tflite(onnx_from_keras(model)), images[0])
    np.testing.assert_allclose(found, run_keras(model, images)[0], atol=1e-5)


@functools.cache
def measured(up: str = "transpose") -> tuple[keras.Model, onnx.ModelProto, Any]:
    model = unet(up=up, head="distance")
    graph = plain_graph(model, range(4), 4)
    return model, graph, collect_distributions(graph, TILES)


@pytest.mark.parametrize(
    ("up", "method"),
    [*(("transpose", method) for method in RANGE_METHODS), *((up, "minmax") for up in UPS)],
)
def test_int8_file_stays_close_to_keras(up: str, method: str) -> None:
    model, graph, distributions = measured(up)
    data = int8_tflite(graph, distributions, method)
    unseen = draw_discs(9, (64, 64))[0]
    difference = np.abs(run_litert(data, unseen) - run_keras(model, unseen[np.newaxis])[0])
    assert 0 < difference.mean() < 5e-3
    assert difference.max() < 0.1


def test_image_enters_the_int8_file_byte_by_byte() -> None:
    graph = plain_graph(unet(), range(3), 3)
    data = int8_tflite(graph, collect_distributions(graph, [TILES[0] // 8]), "minmax")
    (details,) = Interpreter(model_content=data).get_input_details()
    assert details["dtype"] == np.uint8
    assert details["quantization"] == (1.0, 0)


@pytest.mark.parametrize("activation", ["silu", "tanh", "relu6", "leaky_relu", "sigmoid"])
def test_int8_file_knows_every_activation(activation: str) -> None:
    model = single(
        layers.Rescaling(1 / 255), layers.Conv2D(8, 3, padding="same", activation=activation)
    )
    graph = plain_graph(model, range(8), 8)
    data = int8_tflite(graph, collect_distributions(graph, TILES), "minmax")
    expected = run_keras(model, TILES[0][np.newaxis])[0]
    step = (expected.max() - expected.min()) / 255
    assert np.abs(run_litert(data, TILES[0]) - expected).max() < 4 * step


def test_a_tensor_that_is_always_zero_has_a_range() -> None:
    model = single(layers.Rescaling(1 / 255), layers.Conv2D(3, 3, padding="same"), layers.ReLU())
    conv = model.layers[2]
    conv.set_weights([np.zeros_like(conv.get_weights()[0]), np.full(3, -1.0)])
    graph = plain_graph(model, range(3), 3)
    data = int8_tflite(graph, collect_distributions(graph, TILES), "minmax")
    assert not run_litert(data, TILES[0]).any()


def test_same_graph_gives_the_same_bytes() -> None:
    _, graph, distributions = measured()
    assert float_tflite(graph) == float_tflite(graph)
    first, second = (int8_tflite(graph, distributions, "minmax") for _ in range(2))
    assert first == second


def test_converter_leaves_our_log_alone() -> None:
    handlers = list(logging.getLogger().handlers)
    float_tflite(onnx.load_from_string(tiny_onnx()))
    assert logging.getLogger().handlers == handlers


def test_operator_without_counterpart_is_refused_by_name() -> None:
    model = onnx.load_from_string(tiny_onnx())
    model.graph.node[3].CopyFrom(helper.make_node("Asin", ["x1"], ["x2"], "odd"))
    with pytest.raises(ExportError, match=r"one of .*Received: 'odd' \(Asin\)"):
        float_tflite(model)


@pytest.mark.parametrize(
    ("index", "node", "message"),
    [
        (5, helper.make_node("Softmax", ["x3"], ["x4"], "s", axis=2), "Softmax must have axis 1"),
        (0, helper.make_node("Transpose", ["image"], ["chw"], "t", perm=[0, 3, 2, 1]), "NCHW"),
    ],
    ids=["axis", "transpose"],
)
def test_setting_without_counterpart_is_refused(index: int, node: Any, message: str) -> None:
    model = onnx.load_from_string(tiny_onnx())
    model.graph.node[index].CopyFrom(node)
    with pytest.raises(ExportError, match=message):
        float_tflite(model)


def test_operator_that_tensorflow_cannot_compute_is_refused_by_name() -> None:
    sketch = Sketch()
    for channels in (3, 8):  # what is last in NHWC is taken for columns
        by = sketch.conv(channels).constant(np.ones((1, 1, 1, channels)), "by")
        sketch.node("Transpose", perm=[0, 2, 3, 1]).node("Mul", [sketch.value, by])
        sketch.node("Transpose", perm=[0, 3, 1, 2])
    model = sketch.model()
    with pytest.raises(
        ExportError, match=r"compute every operator. Received: 'mul_2' \(Mul\): Dim"
    ):
        float_tflite(model)


def test_operator_that_tflite_has_in_float_only_is_refused_by_name() -> None:
    model = single(layers.Rescaling(1 / 255), layers.Conv2D(2, 1), layers.Activation("elu"))
    graph = plain_graph(model, range(2), 2)
    with pytest.raises(ExportError, match="integers only. Received: .*ELU.* in float"):
        int8_tflite(graph, collect_distributions(graph, TILES), "minmax")


def test_missing_packages_are_named_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    require_tensorflow()
    monkeypatch.setattr(tflite, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match="no tensorflow and no ai-edge-litert") as caught:
        require_tensorflow()
    assert caught.value.hint == "pip install 'cellseg[train,export,tflite]'"


def test_tiny_file_of_the_runtime_tests_is_the_tiny_graph() -> None:
    model, image = onnx.load_from_string(tiny_onnx()), noise(1, 16, 16)[0]
    expected = run_litert(float_tflite(model), image)
    np.testing.assert_allclose(run_litert(TINY_TFLITE.read_bytes(), image), expected, atol=1e-6)
