"""The table of families, and what each network is: parameters, sizes, heads, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.errors import RecipeError  # noqa: E402
from cellseg.train.families import FAMILIES, build_model, parse_params  # noqa: E402
from cellseg.train.families.seeds import SEED_FAMILIES, seed_family  # noqa: E402
from cellseg.train.families.summary import macs  # noqa: E402
from tests.train.small_families import CLASSES, SMALL, WITH_BACKBONE, small  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LIGHT = [name for name in SMALL if name not in WITH_BACKBONE]


def _zeros(initializer: Any, shape: Any, dtype: Any = None) -> Any:
    return keras.ops.zeros(shape, dtype)


def seed(**changes: Any) -> dict[str, Any]:
    return {"base_filters": 16, "base_kernels": (3, 3), "dilation": (1, 1)} | changes


# Seed documents: 7,775,601 and 124,457,585 are printed there, the others were counted from them.
@pytest.mark.parametrize(
    ("section", "classes", "parameters", "side_px", "gmac"),
    [
        (seed(num_layers=6, dropout_rate=0.08), 1, 7_775_601, 256, 3.75),
        (seed(num_layers=7, base_kernels=(7, 7), dilation=(2, 2)), 1, 31_226_609, 512, 33.9),
        (seed(num_layers=8, base_kernels=(5, 5)), 1, 124_457_585, 512, 25.2),
        (seed(num_layers=8, base_kernels=(9, 9), dilation=(3, 3)), 1, 124_996_849, 512, 57.8),
        (seed(base_filters=32, num_layers=5), 11, 7_760_427, 224, 9.3),
    ],
    ids=["002", "000", "004", "001", "003"],
)
def test_the_seeds_unets_have_their_parameters_and_multiply_adds(
    section: dict[str, Any],
    classes: int,
    parameters: int,
    side_px: int,
    gmac: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Random numbers take ten times as long as the rest.
    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", _zeros)
    family, params = seed_family("TensorflowUNet", section)
    model = build_model(family, params, classes)
    assert model.count_params() == parameters
    assert macs(model, side_px, side_px) / 1e9 == pytest.approx(gmac, rel=5e-3)


def test_attention_unet_has_the_parameters_of_the_seeds() -> None:
    model = build_model("attention-unet", {"base_filters": 16, "levels": 6})
    assert model.count_params() == pytest.approx(8.23e6, rel=1e-3)


def test_kernels_dilation_and_dropout_change_from_level_to_level_as_in_the_seeds() -> None:
    params = {"levels": 5, "base_kernel": 9, "dilation": 3, "dropout_rate": 0.06, "base_filters": 2}
    model = build_model("unet", params)
    convs = [model.get_layer(f"down{level}a_conv") for level in range(5)]
    assert [layer.kernel_size[0] for layer in convs] == [9, 7, 5, 3, 3]
    assert [layer.dilation_rate[0] for layer in convs] == [3, 2, 1, 1, 1]
    assert [layer.filters for layer in convs] == [2, 4, 8, 16, 32]
    drops = [model.get_layer(f"down{level}_drop").rate for level in range(1, 5)]
    assert drops == pytest.approx([0.06, 0.12, 0.18, 0.24])


def test_every_family_of_the_table_has_a_small_one_here() -> None:
    assert list(SMALL) == list(FAMILIES)


@pytest.mark.parametrize("name", SMALL)
def test_any_image_whose_sides_the_stride_divides_gives_probabilities(name: str) -> None:
    model, stride = small(name), parse_params(name, SMALL[name]).stride
    rng = np.random.default_rng(0)
    for height, width in ((stride, 3 * stride), (2 * stride, stride)):
        image = rng.uniform(0, 255, (1, height, width, 3)).astype(np.float32)
        found = keras.ops.convert_to_numpy(model(image, training=False))
        assert found.shape == (1, height, width, CLASSES.get(name, 1))
        assert found.dtype == np.float32
        assert 0 <= found.min() < found.max() <= 1
        if name in CLASSES:
            np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", LIGHT)
def test_classes_channels_and_head_are_free(name: str) -> None:
    for classes, channels, head, expected in (
        (1, 1, "auto", 1),
        (5, 3, "softmax", 5),
        (4, 4, "sigmoid", 4),
        (3, 3, "softmax+distance", 4),
    ):
        model = build_model(name, SMALL[name], classes, channels, head)
        assert model.input_shape == (None, None, None, channels)
        assert model.output_shape == (None, None, None, expected)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_parameter_says_what_it_is(family: Any) -> None:
    assert all(field.description for field in family.params.model_fields.values())
    assert family.source
    assert family.params().stride >= 1


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="family='atention-unet'") as caught:
        build_model("atention-unet")
    assert caught.value.hint == "did you mean 'attention-unet'?"
    with pytest.raises(RecipeError, match="unet has no parameter 'base_filter'") as caught:
        build_model("unet", {"base_filter": 4})
    assert caught.value.hint == "did you mean 'base_filters'?"


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("unet", {"levels": 0}, "unet: levels: .*Received: 0"),
        ("unet", {"levels": 9, "dropout_rate": 0.2}, r"dropout_rate \* \(levels - 1\) must be < 1"),
        ("swin-unet", {"heads": (4, 8)}, "heads must hold one number a level"),
        ("swin-unet", {"windows": (3, 2, 2, 2)}, "windows must be powers of two"),
        ("swin-unet", {"heads": (3, 8, 8, 8)}, "heads must divide the filters"),
        ("efficient-unet", {"weights": "none.h5"}, "none, imagenet or a file.*no such file"),
        ("efficient-unet", {"backbone": "B9"}, "efficient-unet: backbone"),
        ("lite-unet", {"weights": "none.pth"}, "none, imagenet or a file.*no such file"),
        ("lite-unet", {"backbone": "Lite9"}, "lite-unet: backbone"),
    ],
)
def test_values_that_cannot_be_are_refused(name: str, params: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_model(name, params)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "classes must be >= 1"),
        ({"classes": 1, "head": "softmax"}, "softmax needs at least two classes"),
        ({"head": "linear"}, "head must be one of"),
        ({"input_channels": 0}, "input_channels must be >= 1"),
    ],
    ids=str,
)
def test_requests_that_cannot_be_are_refused(options: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_model("unet", {"levels": 2}, **options)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "other.weights.h5"
    build_model("unet", {"levels": 1, "base_filters": 1}).save_weights(file)
    with pytest.raises(RecipeError, match="weights must be those of efficientnetb0"):
        build_model("efficient-unet", {"weights": str(file)})


def test_imagenet_that_cannot_be_fetched_is_one_clear_error(monkeypatch: Any) -> None:
    def refuse(**options: Any) -> Any:
        raise OSError("URL fetch failure")

    monkeypatch.setattr(keras.applications, "EfficientNetB0", refuse)
    with pytest.raises(RecipeError, match="fetched once.*URL fetch failure") as caught:
        build_model("efficient-unet", {"weights": "imagenet"})
    assert "FILE.h5" in str(caught.value.hint)


@pytest.mark.parametrize("model", [*SEED_FAMILIES, "TensorFlowUNet"])
def test_the_seeds_class_names_lead_to_families_with_valid_parameters(model: str) -> None:
    section = {"base_filters": 16, "num_layers": 5, "dropout_rate": 0.05, "normalization": False}
    family, params = seed_family(model, section)
    assert parse_params(family, params).stride >= 1


def test_the_seeds_swin_keys_are_its_parameters() -> None:
    section = {"filter_num_begin": 32, "depth": 2, "patch_size": (2, 2), "num_heads": [2, 4]}
    family, params = seed_family("TensorflowSwinUNet", section | {"window_size": [4, 2]})
    assert (family, params) == (
        "swin-unet",
        {"base_filters": 32, "levels": 2, "patch_px": 2, "heads": (2, 4), "windows": (4, 2)},
    )


def test_a_seed_class_without_a_family_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="TensorflowU2Net") as caught:
        seed_family("TensorflowU2Net", {})
    assert caught.value.hint == "the nearest one is TensorflowUNet."
    with pytest.raises(RecipeError, match="must be a square"):
        seed_family("TensorflowUNet", {"base_kernels": (7, 5)})
