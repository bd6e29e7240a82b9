"""A copy turned by any angle is found; cells that merely look alike are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg.data.splits.turned import circles_of, turned_pairs


def field(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (160, 200, 3)), (0, 0), 3)
    return np.clip(128 + 400 * noise, 0, 255).astype(np.uint8)


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [7.0, 45.0, 200.0])
def test_a_turned_copy_is_found_among_others(degrees: float, mirrored: bool) -> None:
    copy = turned(field(1), degrees)[:, :: -1 if mirrored else 1]
    done, data = cv2.imencode(".jpg", copy, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert done
    images = [*map(field, range(5)), cv2.imdecode(data, cv2.IMREAD_COLOR)]
    assert [pair[:2] for pair in turned_pairs([*map(circles_of, images)])] == [(1, 5)]


def test_blank_images_are_no_copies() -> None:
    assert turned_pairs([circles_of(np.full((40, 50), 7, np.uint8))] * 3) == []
    assert turned_pairs([]) == []


def test_different_white_cells_are_no_copies(shared_data: Path) -> None:
    paths = sorted((shared_data / "wbc_tecom" / "test" / "images").iterdir())
    images = [cv2.imread(str(path)) for path in paths]
    assert turned_pairs([circles_of(image) for image in images]) == []
