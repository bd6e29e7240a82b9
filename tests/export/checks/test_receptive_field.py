"""The halo that is chosen makes tiles equal the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cellseg.errors import ExportError
from cellseg.export.checks.receptive_field import (
    ReceptiveField,
    choose_halo,
    measure_reach,
    probe_side,
)
from cellseg.export.sources.translate import float_graph
from tests.export.graphs import Sketch, noise, run_onnx
from tests.export.networks import ignore_keras_warnings, unet

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

pytestmark = ignore_keras_warnings


def predictor(model: onnx.ModelProto) -> Any:
    return lambda tile: run_onnx(model, tile[np.newaxis])[0]


@pytest.mark.parametrize("options", [{"levels": 3}, {"stem": False, "levels": 3}], ids=str)
def test_tile_with_the_halo_equals_the_whole_image_inside(options: dict[str, Any]) -> None:
    model = float_graph(unet(**options), range(3), 3)
    side = probe_side(model)
    field = measure_reach(model, predictor(model), [*noise(6, side, side)])
    halo = choose_halo(field)
    size = 2 * halo + 2 * field.stride
    image = noise(1, 2 * size, 2 * size, seed=7)
    at = halo
    whole = run_onnx(model, image)
    tile = run_onnx(model, image[:, at : at + size, at : at + size])
    inner = slice(halo, size - halo)
    outer = slice(at + halo, at + size - halo)
    np.testing.assert_allclose(tile[:, inner, inner], whole[:, outer, outer], atol=1e-6)
    # Without a halo it is not so: the test can fail.
    assert np.abs(tile[:, :4, :4] - whole[:, at : at + 4, at : at + 4]).max() > 1e-4


def test_measured_reach_of_a_trained_shape_is_its_bound() -> None:
    model = float_graph(unet(levels=3), range(3), 3)
    side = probe_side(model)
    field = measure_reach(model, predictor(model), [*noise(8, side, side)])
    assert field.bound_px - field.stride < field.measured_px <= field.bound_px
    assert field.exact_halo_px % field.stride == 0
    assert field.exact_halo_px >= field.bound_px


def test_reach_beyond_the_structure_is_refused() -> None:
    model = Sketch().conv(2, 3).model()

    def looks_at_the_whole_tile(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (tile - tile.mean()).astype(np.float32)

    side = probe_side(model)
    with pytest.raises(ExportError, match="must not be felt farther than its structure"):
        measure_reach(model, looks_at_the_whole_tile, [*noise(2, side, side)])


def test_tolerance_buys_a_smaller_halo() -> None:
    change = np.array([0.5, 0.1, 0.05, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 0.0], np.float32)
    field = ReceptiveField(measured_px=8, bound_px=8, stride=2, change_at=change)
    assert [choose_halo(field, t) for t in (0.0, 1e-4, 1e-2, 0.2, 1.0)] == [8, 6, 4, 2, 0]


def test_halo_of_what_looks_at_the_whole_tile_ends_where_nothing_is_gained() -> None:
    change = np.array([0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.1, 0.1, 0.125, 0.08], np.float32)
    field = ReceptiveField(
        measured_px=10, bound_px=8, stride=2, change_at=change, whole_tile=("pool",)
    )
    assert [choose_halo(field, t) for t in (0.125, 0.3, 0.9)] == [4, 4, 4]
    with pytest.raises(ExportError, match="a change of 0.125 past any halo by 'pool'") as caught:
        choose_halo(field, 0.05)
    assert "--halo-tolerance 0.13;" in str(caught.value.hint)
