"""A lone Keras file says what it gives, or is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cellseg.errors import ExportError
from cellseg.export.export import ExportOptions
from cellseg.export.sources.source import open_source
from tests.export.networks import ignore_keras_warnings, unet

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


def test_one_result_is_read(tmp_path: Path) -> None:
    source = open_source(lone(tmp_path, "softmax", ("background", "a", "b")))
    assert [item.name for item in source.card.channels] == ["background", "a", "b"]
