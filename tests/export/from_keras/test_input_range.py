"""A lone Keras model is fed what its user says, or bytes, with a word of warning."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellseg.errors import ExportError
from cellseg.export.export import ExportOptions, export_run
from cellseg.export.from_keras.input_range import output_layer
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines import open_engine
from tests.export.graphs import noise
from tests.export.networks import ignore_keras_warnings

keras = pytest.importorskip("keras")
pytestmark = ignore_keras_warnings
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def saved(folder: Path, scales_inside: bool) -> tuple[Any, ExportOptions]:
    keras.utils.set_random_seed(0)
    image = value = keras.Input((None, None, 3))
    if scales_inside:
        value = keras.layers.Rescaling(1 / 255)(value)
    value = keras.layers.SeparableConv2D(4, 3, padding="same", activation="hard_silu")(value)
    result = keras.layers.Conv2D(2, 1, activation="softmax")(value)
    model = keras.Model(image, result)
    model.save(folder / "own.keras")
    return model, ExportOptions(
        folder / "own.keras", folder / "own.cellseg", precisions=("fp32",),
        classes=("background", "cell"), threads=1,
    )  # fmt: skip


def test_scale_and_offset_of_each_colour_come_first(tmp_path: Path) -> None:
    model, options = saved(tmp_path, scales_inside=False)
    scale = tuple(1 / (255 * std) for std in STD)
    offset = tuple(-mean / std for mean, std in zip(MEAN, STD, strict=True))
    export_run(replace(options, input_scale=scale, input_offset=offset))
    (image,) = noise(1, 16, 24)
    bundle = Bundle.open(options.output)
    engine = open_engine(bundle, "onnxruntime", "fp32", (16, 24), threads=1)
    fed = (image / 255 - np.array(MEAN)) / np.array(STD)
    expected = np.asarray(model(fed[np.newaxis].astype(np.float32)))[0]
    np.testing.assert_allclose(engine.infer(image), expected, atol=1e-5)


@pytest.mark.parametrize("scales_inside", [True, False])
def test_a_model_that_does_not_scale_is_warned_of(
    scales_inside: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, options = saved(tmp_path, scales_inside)
    with caplog.at_level(logging.WARNING, "cellseg"):
        export_run(options)
    assert ("--input-scale" in caplog.text) is not scales_inside


def test_a_run_is_not_told_what_it_is_fed(tmp_path: Path) -> None:
    options = ExportOptions(
        tmp_path, tmp_path / "own.cellseg", precisions=("fp32",), input_scale=(1.0,)
    )
    with pytest.raises(ExportError, match="knows what its network is fed"):
        export_run(options)


def test_the_output_is_found_inside_a_model_in_a_model() -> None:
    inner = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1, name="last")])
    image = keras.Input((None, None, 3))
    outer = keras.Model(image, inner(image))
    assert output_layer(outer).name == "last"
