"""The exported graph computes what Keras computes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from cellseg.errors import ExportError
from cellseg.export.from_keras.model import onnx_from_keras
from cellseg.export.sources.translate import float_graph, for_onnx, plain_graph
from tests.export.graphs import noise, run_onnx
from tests.export.networks import ignore_keras_warnings, randomized, run_keras, single, unet

pytestmark = ignore_keras_warnings

# float32 sums of the same numbers in another order; probabilities lie in 0..1.
TOLERANCE = 2e-6

NETWORKS: dict[str, dict[str, Any]] = {
    "stem": {},
    "plain": {"stem": False, "levels": 3},
    "distance channel": {"head": "distance"},
    "two outputs": {"head": "two"},
    "nearest": {"up": "nearest"},
    "bilinear": {"up": "bilinear"},
    "scaled to -1..1": {"scale": 1 / 127.5, "offset": -1.0},
    "scaled by channel": {"scale": [1 / 255, 1 / 200, 1 / 100], "offset": [0.0, 0.1, -0.4]},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_network_and_its_passes_give_what_keras_gives_at_any_size(name: str) -> None:
    model = unet(**NETWORKS[name])
    translated = onnx_from_keras(model)
    count = translated.graph.output[0].type.tensor_type.shape.dim[3].dim_value
    fast = float_graph(model, range(count), count)
    for images in (noise(2, 16, 24), noise(1, 40, 8)):
        expected = run_keras(model, images)
        np.testing.assert_allclose(run_onnx(translated, images), expected, atol=TOLERANCE)
        np.testing.assert_allclose(run_onnx(fast, images), expected, atol=TOLERANCE)


def test_sums_that_are_written_out_are_layers_like_others() -> None:
    image = keras.Input((None, None, 3))
    found = layers.Conv2D(4, 3, padding="same")(image)
    found = found + layers.Conv2D(4, 1)(found)
    found = keras.ops.maximum(found, layers.Conv2D(4, 1)(found))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(layers.MaxPooling2D()(found))
    model = keras.Model(image, layers.Conv2D(2, 1)(found * gate))
    images = noise(1, 16, 24)
    found = run_onnx(for_onnx(plain_graph(model, range(2), 2, whole_tile=True)), images)
    expected = run_keras(model, images)  # in values of 0 to 255, and squares of them
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_an_operand_that_is_no_map_is_refused() -> None:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.ops.maximum(layers.Conv2D(2, 1)(image), 0.3))
    with pytest.raises(ExportError, match="one map and a constant"):
        onnx_from_keras(model)


def test_graph_is_one_that_old_parsers_read() -> None:
    model = onnx_from_keras(unet())
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version <= 9
    (image,), (result,) = model.graph.input, model.graph.output
    assert (image.name, result.name) == ("image", "probabilities")
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    sizes = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert sizes == ["N", "H", "W", 3]


@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    groups=st.sampled_from([1, 3]),
)
@settings(max_examples=12, deadline=None)
def test_same_padding_is_that_of_keras(
    kernel: int, stride: int, dilation: int, groups: int
) -> None:
    dilation = 1 if stride > 1 else dilation  # Keras has no both
    scale = layers.Rescaling(1 / 255)
    conv = layers.Conv2D(3, kernel, stride, "same", dilation_rate=dilation, groups=groups)
    model, images = single(scale, conv), noise(1, 12, 18)
    found = run_onnx(onnx_from_keras(model), images)
    np.testing.assert_allclose(found, run_keras(model, images), atol=1e-5)


@given(kernel=st.integers(1, 5), stride=st.integers(1, 3))
@settings(max_examples=8, deadline=None)
def test_transposed_convolution_is_that_of_keras(kernel: int, stride: int) -> None:
    kernel = max(kernel, stride)
    model = single(layers.Rescaling(1 / 255), layers.Conv2DTranspose(4, kernel, stride, "same"))
    images = noise(1, 6, 4)
    found = run_onnx(onnx_from_keras(model), images)
    np.testing.assert_allclose(found, run_keras(model, images), atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        layers.AveragePooling2D(3, 1, "same"),
        layers.MaxPooling2D(3, 2, "same"),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        layers.ReLU(max_value=0.3),
        layers.ReLU(negative_slope=0.1),
        layers.LeakyReLU(negative_slope=0.3),
        layers.Softmax(),
        layers.Activation("silu"),
        layers.Activation("tanh"),
        layers.Activation("elu"),
        layers.Activation("relu6"),
        layers.UpSampling2D(3, interpolation="nearest"),
        layers.UpSampling2D(4, interpolation="bilinear"),
        layers.SpatialDropout2D(0.5),
        layers.GaussianNoise(1.0),
        layers.BatchNormalization(scale=False, center=False),
        layers.ELU(0.7),
        layers.PReLU("random_normal", shared_axes=[1, 2]),
        layers.PReLU("random_normal", shared_axes=[1, 2, 3]),
        layers.ActivityRegularization(0.1),
        layers.AlphaDropout(0.3),
        layers.RandomBrightness(0.3),
        layers.RandomContrast(0.3),
        layers.RandomFlip(),
        layers.RandomRotation(0.2),
        layers.RandomTranslation(0.2, 0.2),
        layers.RandomZoom(0.2),
    ],
    ids=lambda layer: layer.name,
)
def test_layer_is_that_of_keras(layer: Any) -> None:
    model, images = single(layers.Rescaling(1 / 100, -1.0), layer), noise(1, 12, 8)
    found = run_onnx(onnx_from_keras(model), images)
    np.testing.assert_allclose(found, run_keras(model, images), atol=1e-5)


def test_layers_that_join_branches_and_are_shared_are_those_of_keras() -> None:
    image = layers.Input((None, None, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    scaled = layers.Rescaling(1 / 255)(image)
    once, twice = shared(scaled), shared(shared(scaled))
    x = layers.Add()([once, twice, layers.Multiply()([once, scaled])])
    model, images = randomized(keras.Model(image, x)), noise(1, 8, 8)
    found = run_onnx(onnx_from_keras(model), images)
    np.testing.assert_allclose(found, run_keras(model, images), atol=1e-5)


@pytest.mark.parametrize("joined", [layers.Average, layers.Maximum, layers.Minimum])
def test_layers_that_compare_branches_are_those_of_keras(joined: Any) -> None:
    image = layers.Input((None, None, 3))
    branches = [
        layers.Conv2D(2, 3, padding="same")(layers.Rescaling(1 / 255)(image)) for _ in "abc"
    ]
    model, images = randomized(keras.Model(image, joined()(branches))), noise(1, 8, 8)
    found = run_onnx(onnx_from_keras(model), images)
    np.testing.assert_allclose(found, run_keras(model, images), atol=1e-5)


def test_models_inside_models_are_unfolded() -> None:
    inner = keras.Sequential([layers.Input((None, None, 3)), layers.Conv2D(4, 3, padding="same")])
    model = keras.Sequential([layers.Input((None, None, 3)), layers.Rescaling(1 / 255), inner])
    images = noise(1, 8, 8)
    found = run_onnx(onnx_from_keras(model), images)
    np.testing.assert_allclose(found, run_keras(model, images), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.RandomCrop(8, 8, name="crop"), r"one of .* Received: 'crop' \(RandomCrop\)"),
        (layers.PReLU(name="pr"), r"shared_axes must be \[1, 2\].*'pr'"),
        (layers.GroupNormalization(3, name="gn"), r"seams that no halo mends.*'gn'"),
        (layers.LayerNormalization((1, 2, 3), name="ln"), r"seams that no halo mends.*'ln'"),
        (layers.Conv2D(4, 3, name="c"), r"padding must be 'same'.*'c'"),
        (layers.MaxPooling2D(3, 2, name="p"), r"padding must be 'same'.*'p'"),
        (layers.Conv2DTranspose(4, 2, 3, name="t"), r"kernel_size must be at least strides.*'t'"),
        (layers.Activation("hard_tanh", name="a"), r"activation must be one of.*'a'"),
        (layers.ReLU(threshold=1.0, name="r"), r"threshold must be 0.*'r'"),
        (layers.BatchNormalization(axis=1, name="b"), r"axis must be the last.*'b'"),
    ],
    ids=lambda value: value.name if isinstance(value, keras.Layer) else None,
)
def test_layer_without_counterpart_is_refused_by_name(layer: Any, message: str) -> None:
    image = layers.Input((16, 16, 3))
    with pytest.raises(ExportError, match=message):
        onnx_from_keras(keras.Model(image, layer(image)))


@pytest.mark.parametrize("shapes", [[(8, 8, 1)], [(8, 8, 3), (8, 8, 3)]], ids=["grey", "two"])
def test_other_inputs_than_one_rgb_image_are_refused(shapes: list[tuple[int, ...]]) -> None:
    images = [layers.Input(shape) for shape in shapes]
    x = images[0] if len(images) == 1 else layers.Add()(images)
    with pytest.raises(ExportError, match="must take one RGB image"):
        onnx_from_keras(keras.Model(images, layers.Conv2D(2, 1)(x)))


def test_output_that_is_no_map_is_refused() -> None:
    image = layers.Input((8, 8, 3))
    with pytest.raises(ExportError, match="must give maps"):
        onnx_from_keras(keras.Model(image, layers.Flatten()(image)))


def test_model_that_was_never_built_is_refused() -> None:
    with pytest.raises(ExportError, match="must be functional or a built Sequential"):
        onnx_from_keras(keras.Sequential([layers.Conv2D(2, 1)]))


@pytest.mark.parametrize(("groups", "helps"), [(-1, True), (6, True), (2, False)])
def test_a_tolerance_is_offered_where_it_would_help(groups: int, helps: bool) -> None:
    model = single(layers.Conv2D(6, 1), layers.GroupNormalization(groups))
    with pytest.raises(ExportError, match="whole tile") as caught:
        onnx_from_keras(model)
    assert ("--halo-tolerance" in str(caught.value.hint)) == helps


def test_layers_that_are_not_known_are_pointed_to_onnx() -> None:
    with pytest.raises(ExportError, match="Every layer must be one of") as caught:
        onnx_from_keras(single(layers.Conv2D(6, 1), layers.Dense(3)))
    assert "pip install tf2onnx" in str(caught.value.hint)
    assert "format='onnx'" in str(caught.value.hint)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float) -> None:
    model = single(layers.Conv2D(2, 1), layers.BatchNormalization(name="bn"))
    model.get_layer("bn").moving_variance.assign([1.0, value])
    with pytest.raises(ExportError, match=r"finite. .*'moving_variance' of 'bn' \(BatchNorm"):
        onnx_from_keras(model)
