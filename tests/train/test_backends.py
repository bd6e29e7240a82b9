"""Networks and losses are those of any backend of Keras, and of any precision."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")

import cellseg  # noqa: E402
from cellseg.layers import in_full_precision  # noqa: E402
from cellseg.train.families import build_model  # noqa: E402
from cellseg.train.objectives import LOSSES, make_loss  # noqa: E402
from cellseg.train.scores.cam import seg_grad_cam  # noqa: E402
from tests.train.small_families import SMALL, batch, small  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COMPARED = ("unet", "attention-unet", "swin-unet")
PIXEL_LOSSES = [name for name in LOSSES if name != "interior_border"]
SCRIPT = """
import sys
import numpy as np
import keras
from cellseg.train.families import build_model
from cellseg.train.objectives import make_loss
from tests.train.small_families import SMALL, batch

found = {"backend": keras.backend.backend()}
with np.load(sys.argv[1]) as file:
    known = dict(file)
for name in sys.argv[3].split(","):
    model, (image, truth) = build_model(name, SMALL[name]), batch(name)
    model.set_weights([known[f"{name}/{i}"] for i in range(len(model.weights))])
    found[name] = keras.ops.convert_to_numpy(model(image, training=False))
    model.compile(keras.optimizers.SGD(1e-2), make_loss("bce_dice"))
    found[f"{name}/loss"] = model.train_on_batch(image, truth)
for name in sys.argv[4].split(","):
    loss = make_loss(name)(known["truth"], known["guess"])
    found[f"loss/{name}"] = keras.ops.convert_to_numpy(loss)
if found["backend"] != "jax":
    from cellseg.train.scores.cam import seg_grad_cam
    model, (image, _) = build_model("unet", SMALL["unet"]), batch("unet")
    model.set_weights([known[f"unet/{i}"] for i in range(len(model.weights))])
    found["cam"] = seg_grad_cam(model, image[0].astype(np.uint8), 0)
np.savez(sys.argv[2], **found)
"""


@pytest.mark.parametrize("part", ["train", "layers"])
def test_no_model_code_names_a_backend(part: str) -> None:
    for source in (Path(cellseg.__path__[0]) / part).rglob("*.py"):
        if source.name == "cam.py":
            continue  # Keras has no call of its own for a gradient outside of training
        tree = ast.parse(source.read_text(encoding="utf-8"))
        plain = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
        names = {name.name for node in plain for name in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        wrong = {name for name in names if name.split(".")[0] in ("tensorflow", "jax", "torch")}
        assert wrong == set(), source


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_another_backend_computes_the_same(backend: str, tmp_path: Path) -> None:
    if keras.backend.backend() == backend:
        pytest.skip(f"{backend} is the backend already")
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (2, 8, 8, 1)).astype(np.float32)
    guess = rng.uniform(0, 1, (2, 8, 8, 1)).astype(np.float32)
    given: dict[str, Any] = {"truth": truth, "guess": guess}
    expected: dict[str, Any] = {}
    for name in COMPARED:
        model, (image, mask) = small(name), batch(name)
        given |= {f"{name}/{i}": value for i, value in enumerate(model.get_weights())}
        expected[name] = keras.ops.convert_to_numpy(model(image, training=False))
        model.compile(keras.optimizers.SGD(1e-2), make_loss("bce_dice"), run_eagerly=True)
        if "dropout_rate" not in SMALL[name]:  # else each backend drops other pixels
            expected[f"{name}/loss"] = model.train_on_batch(image, mask)
    for name in PIXEL_LOSSES:
        expected[f"loss/{name}"] = float(make_loss(name)(truth, guess))
    if backend != "jax":
        unet, (image, _) = small("unet"), batch("unet")
        unet.set_weights([given[f"unet/{i}"] for i in range(len(unet.weights))])
        expected["cam"] = seg_grad_cam(unet, image[0].astype(np.uint8), 0)
        assert expected["cam"].max() > 0.9
    found = _run(backend, given, tmp_path)
    assert str(found["backend"]) == backend
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-5, rtol=1e-4, err_msg=name)


def _run(backend: str, given: dict[str, Any], folder: Path) -> Any:
    np.savez(folder / "given.npz", **given)
    arguments = [str(folder / "given.npz"), str(folder / "found.npz")]
    arguments += [",".join(COMPARED), ",".join(PIXEL_LOSSES)]
    root = Path(cellseg.__path__[0]).parent
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=environment, cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(folder / "found.npz")


@pytest.fixture
def half_precision() -> Any:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", ["stem-unet", "swin-unet"])
def test_mixed_precision_gives_float32_and_the_same_network(name: str, half_precision: Any) -> None:
    model, (image, _) = small(name), batch(name)
    found = keras.ops.convert_to_numpy(model(image, training=False))
    assert found.dtype == np.float32
    full = in_full_precision(model)
    keras.config.set_dtype_policy("float32")
    plain = build_model(name, SMALL[name])
    plain.set_weights(model.get_weights())
    expected = keras.ops.convert_to_numpy(plain(image, training=False))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(full(image, training=False)), expected)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.abs(found - expected).max() > 0
    assert in_full_precision(plain) is plain
