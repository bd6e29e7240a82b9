"""Where nobody labelled an image, fp32's own result is the label, and it is called agreement."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cellseg.errors import ExportError
from cellseg.export.images.export_images import ExportImages
from cellseg.export.judging.judging import AGREEMENT, Judging, judges_of, labelled_by
from cellseg.runtime.bundles.bundle import ModelCard
from tests.export.judging.test_quality import CARD, Oracle, labelled
from tests.fakes import card_fields

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILES = [labelled(seed).image for seed in (0, 7)]
BLANK = np.zeros((60, 40, 3), np.uint8)
PLAIN = ModelCard.model_validate(card_fields())  # tells no cells apart


def images(held_out: list[NDArray[np.uint8]], **changes: Any) -> ExportImages:
    return replace(ExportImages(TILES, held_out, {}, {}), **changes)


def test_fp32_agrees_with_itself_fully() -> None:
    found = labelled_by(Oracle(), TILES, CARD).agreement(Oracle())
    assert found is not None
    assert (found.dice, found.object_f1, found.count_drift) == ({"nucleus": 1.0}, 1.0, 0.0)
    assert (found.tiles, found.cells, found.engine, found.kept) == (2, 6, "oracle", 1.0)


def test_cells_that_fp32_found_and_a_variant_lost_show_in_every_figure() -> None:
    found = labelled_by(Oracle(), TILES, CARD).agreement(Oracle(miss=20))
    assert found is not None
    assert found.dice["nucleus"] == pytest.approx(0.8)  # 2 * 480 / (480 + 720)
    assert found.object_f1 == pytest.approx(0.8)  # 4 found of 6
    assert found.count_drift == pytest.approx(1 / 3, abs=1e-5)
    assert found.kept == pytest.approx(2 / 3, abs=1e-5)  # the drift is the least of them


def test_a_pixel_on_an_empty_tile_does_not_weigh_like_a_tile_of_cells() -> None:
    class Stray(Oracle):
        """Sees one pixel where there is nothing."""

        def __call__(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            found = super().__call__(image)
            if not image.any():
                found[5, 5] = 0, 1
            return found

    found = labelled_by(Oracle(), [*TILES, BLANK], PLAIN).agreement(Stray())
    assert found is not None
    assert found.dice["nucleus"] == pytest.approx(1440 / 1441, abs=1e-5)  # a mean of tiles: 2 / 3


def test_a_class_that_fp32_never_finds_is_left_out_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = ("background", "nucleus", "vacuole")
    card = ModelCard.model_validate(
        card_fields(
            classes=[{"name": name, "color": (0, 0, i)} for i, name in enumerate(names)],
            channels=[{"name": name, "class_index": i} for i, name in enumerate(names)],
        )
    )

    class Three(Oracle):
        """Knows of vacuoles, and never sees one."""

        def __call__(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            two = super().__call__(image)
            return np.concatenate([two, np.zeros_like(two[..., :1])], axis=-1)

    with caplog.at_level(logging.WARNING, "cellseg"):
        _, reporting = judges_of(images(TILES), card, Three)
    found = reporting.agreement(Three())
    assert found is not None
    assert set(found.dice) == {"nucleus"}
    assert "finds no vacuole on these tiles" in caplog.text


def test_a_model_that_tells_no_cells_apart_has_no_cells_to_agree_on() -> None:
    found = labelled_by(Oracle(), TILES, PLAIN).agreement(Oracle(miss=20))
    assert found is not None
    assert (found.object_f1, found.count_drift, found.cells) == (None, None, None)
    assert found.kept == pytest.approx(0.8)


def test_tiles_are_run_at_the_scale_that_they_were_cut_at() -> None:
    fields = card_fields(input={"fit": "whole", "fit_px": (240, 160)})
    judging = labelled_by(Oracle(), TILES, ModelCard.model_validate(fields))
    shapes: list[tuple[int, ...]] = []

    class Watched(Oracle):
        """Notes what it is given."""

        def __call__(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            shapes.append(image.shape)
            return super().__call__(image)

    judging.agreement(Watched())
    assert shapes == [tile.shape for tile in TILES]


def test_labels_come_before_agreement() -> None:
    truth = {"discs": [labelled(3)]}
    both = judges_of(images(TILES, select=truth, evaluate=truth), CARD, Oracle)
    assert [judging.by_fp32 for judging in both] == [False, False]
    for name, expected in {"select": [False, True], "evaluate": [True, False]}.items():
        found = judges_of(images(TILES, **{name: truth}), CARD, Oracle)
        assert [judging.by_fp32 for judging in found] == expected
        assert [judging.words for judging in found if judging.by_fp32] == [AGREEMENT]


def test_labels_and_agreement_judge_by_the_same_call() -> None:
    truth = Judging(CARD, {"discs": [labelled(0), labelled(7)]})
    agreed = labelled_by(Oracle(), TILES, CARD)
    for judging in (truth, agreed):  # the oracle's word is the truth: both must say the same
        assert judging.judge(Oracle())(Oracle(miss=20)) == pytest.approx(2 / 3, abs=1e-5)


@pytest.mark.parametrize(
    ("held_out", "lack"),
    [([BLANK, BLANK], "fp32 finds nothing on any of 2 tiles"), ([], "2 tiles of one place")],
    ids=["blank", "one place"],
)
def test_a_result_that_says_nothing_is_no_evidence(
    held_out: list[NDArray[np.uint8]], lack: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ExportError, match=lack) as raised:
        judges_of(images(held_out), CARD, Oracle, insists=True)
    assert "--representative" in str(raised.value.hint)
    with caplog.at_level(logging.WARNING, "cellseg"):
        choosing, reporting = judges_of(images(held_out), CARD, Oracle)
    assert lack in caplog.text
    assert choosing.by_fp32
    assert choosing.words.startswith(f"nothing ({lack}")  # the report does not call it agreement
    assert not reporting.datasets


def test_what_the_figures_rest_on_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cellseg"):
        judges_of(images(TILES), CARD, Oracle)
    assert "agreement with fp32, not quality" in caplog.text
    assert "6 cells on these tiles: one more or less is 16.7 %" in caplog.text


def test_every_tile_is_told_while_it_is_measured() -> None:
    told: list[tuple[str, int, int]] = []
    _, reporting = judges_of(
        images(TILES), CARD, Oracle, progress=lambda what, done, of: told.append((what, done, of))
    )
    reporting.agreement(Oracle())
    assert told == [(f"{AGREEMENT} (oracle)", done, 2) for done in (1, 2)]
