"""Predictors whose blended and cropped result is known by hand.

The properties are those that MONAI, DeepCell and TIAToolbox test of their own tiling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.segmenter import Segmenter
from tests.fakes import FakeEngine, IdentityEngine, fake_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

WAYS: list[dict[str, Any]] = [
    {},
    {"blend": "hann"},
    {"blend": "gaussian"},
    {"blend": "hann", "overlap": 0.5},
    {"blend": "gaussian", "overlap": 0.8},
    {"blend": "hann", "overlap": 0.0},
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fake_bundle(tmp_path_factory.mktemp("model") / "fake.cellseg")


def foreground(
    bundle: Bundle,
    image: NDArray[np.uint8],
    engine: Callable[[tuple[int, int]], FakeEngine] = IdentityEngine,
    **options: Any,
) -> NDArray[np.float32]:
    """Run an engine over an image; return the foreground probability (H, W)."""
    chosen = InferOptions(model=bundle.path, **options)
    with Segmenter(bundle, chosen, lambda _, __, tile_hw: engine(tile_hw)) as segmenter:
        return segmenter(image).probabilities[..., 1]


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    return ((np.arange(height)[:, None] * 3 + np.arange(width)) % 256).astype(np.uint8)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("hw", [(511, 237), (512, 245), (40, 30), (1, 1), (1, 300), (301, 1)])
def test_identity_gives_the_image_back(
    bundle: Bundle, hw: tuple[int, int], way: dict[str, Any]
) -> None:
    image = ramp(*hw)
    found = foreground(bundle, image, tile_px=64, **way)
    np.testing.assert_array_equal(found, image / np.float32(255))


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
@pytest.mark.parametrize("batch", [1, 2, 7, 1000])
def test_no_batch_changes_a_bit(bundle: Bundle, batch: int, way: dict[str, Any]) -> None:
    image = ramp(200, 130)
    found = foreground(bundle, image, tile_px=64, batch=batch, workers=3, **way)
    np.testing.assert_array_equal(found, image / np.float32(255))


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.sampled_from([16, 24, 32, 200]),
    st.sampled_from(["hann", "gaussian"]),
    st.floats(0, 0.8),
)
def test_any_size_tile_and_overlap_gives_the_image_back(
    bundle: Bundle, hw: tuple[int, int], tile_px: int, blend: str, overlap: float
) -> None:
    image = ramp(*hw)
    found = foreground(bundle, image, tile_px=tile_px, blend=blend, overlap=overlap)
    np.testing.assert_array_equal(found, image / np.float32(255))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.5, 1 / 3])
def test_a_constant_comes_back(bundle: Bundle, value: float, way: dict[str, Any]) -> None:
    class Constant(FakeEngine):
        def foreground(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.full(tile.shape[:2], value, np.float32)

    found = foreground(bundle, ramp(150, 170), Constant, tile_px=64, **way)
    assert np.ptp(found) == 0
    assert found[0, 0] == pytest.approx(value, abs=1e-5)


class Growing(FakeEngine):
    """The first tile is 1 throughout, the second 2, and so on, in steps of 1/255."""

    first = 1

    def foreground(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        value = np.float32(self.calls - 1 + self.first) / np.float32(255)
        return np.full(tile.shape[:2], value, np.float32)


class GrowingFromZero(Growing):
    first = 0


# Tiles of 8 that overlap by 4. Weights: 127 times the window, rounded, at least 1; from the
# border 5, 39, 88, 122 for Hann and 1, 6, 41, 112 for a Gaussian of one pixel.
HANN_ROW = [
    *(1, 1, 1, 1),
    *((1 * 122 + 2 * 5) / 127, (1 * 88 + 2 * 39) / 127, (1 * 39 + 2 * 88) / 127),
    *((1 * 5 + 2 * 122) / 127, (2 * 122 + 3 * 5) / 127, (2 * 88 + 3 * 39) / 127),
    *((2 * 39 + 3 * 88) / 127, (2 * 5 + 3 * 122) / 127),
    *(3, 3, 3, 3),
]
GAUSSIAN_ROW = [
    *(1, 1, 1, 1),
    *((1 * 112 + 2 * 1) / 113, (1 * 41 + 2 * 6) / 47, (1 * 6 + 2 * 41) / 47),
    *((1 * 1 + 2 * 112) / 113, (2 * 112 + 3 * 1) / 113, (2 * 41 + 3 * 6) / 47),
    *((2 * 6 + 3 * 41) / 47, (2 * 1 + 3 * 112) / 113),
    *(3, 3, 3, 3),
]


@pytest.mark.parametrize(("blend", "row"), [("hann", HANN_ROW), ("gaussian", GAUSSIAN_ROW)])
def test_tiles_that_grow_blend_into_rows_computed_by_hand(
    bundle: Bundle, blend: str, row: list[float]
) -> None:
    found = foreground(
        bundle, ramp(8, 16), Growing, tile_px=8, blend=blend, overlap=0.5, workers=1, batch=1
    )
    np.testing.assert_allclose(found * 255, np.tile(row, (8, 1)), atol=255 / 65535)


def test_cropped_tiles_do_not_mix(bundle: Bundle) -> None:
    found = foreground(bundle, ramp(16, 28), Growing, tile_px=16, workers=1, batch=1)
    kept = [1] * 10 + [2] * 4 + [3] * 4 + [4] * 10  # core 4, halo 6
    np.testing.assert_allclose(found[0] * 255, kept, rtol=1e-6)


def test_tiles_that_are_zero_throughout_count(bundle: Bundle) -> None:
    found = foreground(
        bundle, ramp(8, 16), GrowingFromZero, tile_px=8, blend="hann", overlap=0.5, workers=1
    )
    expected = np.tile(HANN_ROW, (8, 1)) - 1
    np.testing.assert_allclose(found * 255, expected, atol=255 / 65535)
