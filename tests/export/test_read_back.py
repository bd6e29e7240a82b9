"""Weights come back out of a bundle, whatever the passes of the export did to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")
pytest.importorskip("onnx", reason="needs the [export] extra")

from cellseg.errors import ExportError  # noqa: E402
from cellseg.export.read_back import read_back  # noqa: E402
from cellseg.export.sources.translate import float_graph  # noqa: E402
from cellseg.layers.folded import is_folded, is_norm  # noqa: E402
from cellseg.runtime.bundles.bundle import Bundle  # noqa: E402
from cellseg.train.families import build_model  # noqa: E402
from cellseg.train.networks.norms import settle_norms  # noqa: E402
from tests.bundles import make_bundle  # noqa: E402
from tests.export.networks import run_keras  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("stem-unet", {"base_filters": 4, "levels": 3}),
    ("stem-unet", {"base_filters": 4, "levels": 2, "stem": False}),
    ("unet", {"base_filters": 4}),
]


def network(family: str, params: dict[str, Any], seed: int) -> Any:
    """Build a network whose every variable is as training might leave it."""
    keras.utils.set_random_seed(seed)
    model = build_model(family, params, 3, head="softmax")
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if is_norm(layer):
            shape = layer.beta.shape
            layer.gamma.assign(random.uniform(0.5, 2, shape))
            layer.beta.assign(random.normal(0, 0.3, shape))
            layer.moving_mean.assign(random.normal(0, 0.3, shape))
            layer.moving_variance.assign(random.uniform(0.3, 3, shape))
    return model


def bundle_of(model: Any, folder: Path) -> Bundle:
    names = ("background", "interior", "border")
    changes = {
        "classes": [{"name": name, "color": (0, 0, 0)} for name in names],
        "channels": [{"name": name, "class_index": index} for index, name in enumerate(names)],
        "head": {"kind": "softmax"},
        "threshold": None,
        "stride": 16,
        "halo_px": 96,
    }
    data = float_graph(model, range(3), 3).SerializeToString()
    return make_bundle(folder / "small.cellseg", data, **changes)


def noise(seed: int = 3) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)


def in_training(model: Any) -> Any:
    """Compute as a step does, by the batch's own statistics; the model stays as it was."""
    weights = model.get_weights()
    result = keras.ops.convert_to_numpy(model(noise(), training=True))
    model.set_weights(weights)
    return result


@pytest.mark.parametrize(("family", "params"), FAMILIES)
def test_weights_come_back(family: str, params: dict[str, Any], tmp_path: Path) -> None:
    trained, fresh = network(family, params, 0), network(family, params, 1)
    bundle = bundle_of(trained, tmp_path)
    assert np.abs(run_keras(fresh, noise()) - run_keras(trained, noise())).max() > 0.01
    read_back(bundle, fresh)
    np.testing.assert_allclose(run_keras(fresh, noise()), run_keras(trained, noise()), atol=1e-4)


def test_settled_norms_compute_the_same_and_train_as_they_infer(tmp_path: Path) -> None:
    family, params = FAMILIES[0]
    trained, fresh = network(family, params, 0), network(family, params, 1)
    read_back(bundle_of(trained, tmp_path), fresh)
    before = run_keras(fresh, noise())
    off = np.abs(in_training(fresh) - before).max()
    count = sum(is_folded(layer) for layer in fresh.layers)
    assert settle_norms(fresh, [noise()]) == count > 0
    assert not any(is_folded(layer) for layer in fresh.layers)
    np.testing.assert_allclose(run_keras(fresh, noise()), before, atol=1e-4)
    # The statistics of the batch are those that were measured, so training sees the same.
    settled = np.abs(in_training(fresh) - before).max()
    assert settled < 1e-3 < off


def test_norms_that_were_trained_are_left_alone() -> None:
    model = network(*FAMILIES[0], 0)
    before = model.get_weights()
    assert settle_norms(model, [noise()]) == 0
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_network_is_refused(tmp_path: Path) -> None:
    bundle = bundle_of(network(*FAMILIES[0], 0), tmp_path)
    wider = network("stem-unet", {"base_filters": 8, "levels": 3}, 0)
    with pytest.raises(ExportError, match="exported from"):
        read_back(bundle, wider)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_norms_behind_activations_are_refused_and_not_guessed(
    normalization: str, tmp_path: Path
) -> None:
    # A BatchNorm there is folded into the next convolution, whose bias then mixes both.
    params = {"base_filters": 4, "levels": 2, "normalization": normalization}
    bundle = bundle_of(network("unet", params, 0), tmp_path)
    with pytest.raises(ExportError, match="exported from"):
        read_back(bundle, network("unet", params, 1))
