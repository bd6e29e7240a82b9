"""PNG in bands: what other readers see, and that bands leave no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.writers.png import PngFile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PALETTE = np.array([[0, 0, 0], [255, 200, 0], [0, 90, 255]], np.uint8)


def noise(height: int, width: int, channels: int, top: int = 256) -> NDArray[np.uint8]:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(height + width).integers(0, top, shape).astype(np.uint8)


def written(
    path: Path, image: NDArray[np.uint8], rows: int = 7, palette: NDArray[np.uint8] | None = None
) -> Path:
    with PngFile(path, image.shape[:2], 3 if image.ndim == 3 else 1, palette) as png:
        for y in range(0, len(image), rows):
            png.add(image[y : y + rows])
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("hw", [(1, 1), (1, 50), (50, 1), (33, 41)])
def test_opencv_reads_what_was_written(tmp_path: Path, hw: tuple[int, int], channels: int) -> None:
    image = noise(*hw, channels)
    found = cv2.imread(str(written(tmp_path / "a.png", image)), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found, image if channels == 1 else image[..., ::-1])


def test_a_palette_shows_colours_and_keeps_the_values(tmp_path: Path) -> None:
    image = noise(20, 30, 1, top=3)
    path = written(tmp_path / "a.png", image, palette=PALETTE)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], PALETTE[image])
    assert path.read_bytes()[25] == 3  # the colour type: values are indices


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40))
def test_bands_leave_no_trace(tmp_path_factory: pytest.TempPathFactory, rows: int) -> None:
    image, folder = noise(40, 23, 3), tmp_path_factory.mktemp("png")
    whole, cut = (written(folder / f"{n}.png", image, n) for n in (40, rows))
    np.testing.assert_array_equal(cv2.imread(str(whole)), cv2.imread(str(cut)))


def test_a_png_that_fails_has_no_end(tmp_path: Path) -> None:
    def stop() -> None:
        with PngFile(tmp_path / "a.png", (9, 9)) as png:
            png.add(np.zeros((3, 9), np.uint8))
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        stop()
    assert b"IEND" not in (tmp_path / "a.png").read_bytes()
