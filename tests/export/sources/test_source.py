"""A lone Keras file says what it gives, or is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import pytest
from keras import layers

from cellseg.errors import ExportError
from cellseg.export.export import ExportOptions
from cellseg.export.sources.source import open_source
from cellseg.export.sources.translate import plain_graph
from tests.export.networks import ignore_keras_warnings, single, unet

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = ignore_keras_warnings


def lone(folder: Path, head: str, classes: tuple[str, ...]) -> ExportOptions:
    unet(head=head).save(folder / "own.keras")
    return ExportOptions(folder / "own.keras", folder / "own.cellseg", classes=classes)


def test_several_results_that_nothing_explains_are_refused(tmp_path: Path) -> None:
    options = lone(tmp_path, "two", ("background", "a", "b", "c"))
    with pytest.raises(ExportError, match=r"one result. Received: 2, 'conv2d_\d+', '") as caught:
        open_source(options)
    assert "keras.Model(model.input, model.outputs[0])" in str(caught.value.hint)


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_model_that_was_never_built_is_refused(tmp_path: Path) -> None:
    keras.Sequential([keras.layers.Conv2D(2, 1)]).save(tmp_path / "own.keras")
    options = ExportOptions(tmp_path / "own.keras", tmp_path / "o.cellseg", classes=("a", "b"))
    with pytest.raises(ExportError, match="never built") as caught:
        open_source(options)
    assert "keras.Input" in str(caught.value.hint)


def test_a_sequential_model_is_read(tmp_path: Path) -> None:
    network = [keras.Input((None, None, 3)), layers.Conv2D(1, 1, activation="sigmoid")]
    keras.Sequential(network).save(tmp_path / "own.keras")
    options = ExportOptions(tmp_path / "own.keras", tmp_path / "o.cellseg", classes=("b", "a"))
    assert open_source(options).card.head.kind == "sigmoid"


def test_one_result_is_read(tmp_path: Path) -> None:
    source = open_source(lone(tmp_path, "softmax", ("background", "a", "b")))
    assert [item.name for item in source.card.channels] == ["background", "a", "b"]


@pytest.mark.parametrize(
    ("layer", "shares"),
    [
        (layers.Conv2D(2, 3, 2, "same"), "1/2 of its height and 1/2 of its width"),
        (layers.MaxPooling2D((1, 4)), "1 of its height and 1/4 of its width"),
        (layers.UpSampling2D(2), "2 of its height and 2 of its width"),
    ],
)
def test_a_map_of_another_size_than_the_image_is_refused(layer: Any, shares: str) -> None:
    with pytest.raises(ExportError, match=f"as large as the image.*Received: {shares}"):
        plain_graph(single(layers.Conv2D(2, 1), layer), range(2), 2)
