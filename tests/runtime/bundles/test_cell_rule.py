"""Cells at a threshold of the user's: pixels are sure as far above it as above the model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cellseg.runtime.bundles.decide import cell_rule
from tests.fakes import CELL_HEAD, fake_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("own", [None, 0.5, 0.3])
def test_pixels_of_cells_are_sure_as_far_above_any_threshold(
    tmp_path: Path, own: float | None
) -> None:
    card = fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD, threshold=own).manifest
    rule = card.head.instances
    assert rule is not None
    assert cell_rule(card, own) is rule
    found = [cell_rule(card, each) for each in (0.05, 0.2, 0.7, 0.95)]
    sure = [each.sure_probability for each in found if each is not None]
    assert sure == sorted(sure)
    assert all(each > at for each, at in zip(sure, (0.05, 0.2, 0.7, 0.95), strict=True))
    half = 0.5 if own is None else own
    odds = [p / (1 - p) for p in (sure[1], 0.2, rule.sure_probability, half)]
    assert odds[0] / odds[1] == pytest.approx(odds[2] / odds[3])


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_a_threshold_of_all_or_nothing_has_a_rule(tmp_path: Path, own: float) -> None:
    card = fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD, threshold=own).manifest
    found = cell_rule(card, 0.5)
    assert found is not None
    assert 0 < found.sure_probability <= 1


def test_a_model_without_cells_has_no_rule_for_them(tmp_path: Path) -> None:
    assert cell_rule(fake_bundle(tmp_path / "m.cellseg").manifest, 0.2) is None
