"""Windows of our own label files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cellseg.errors import SlideError
from cellseg.runtime.store.file_labels import FileLabels
from cellseg.runtime.store.labels import ArrayLabels, halved, windows
from cellseg.runtime.writers.ome_tiff import LabelImage, write_ome_tiff

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def labels() -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 9, (20, 30)).astype(np.uint32)
    return coarse.repeat(37, 0).repeat(37, 1)[:703, :1101]


@pytest.fixture
def path(tmp_path: Path, labels: np.ndarray) -> Path:
    write_ome_tiff(tmp_path / "a.ome.tif", ArrayLabels(labels), LabelImage("labels"))
    return tmp_path / "a.ome.tif"


def test_any_window_is_that_of_the_array(path: Path, labels: np.ndarray) -> None:
    with closing(FileLabels(path)) as file:
        assert (file.hw, file.dtype) == (labels.shape, np.uint32)
        for y, x, h, w in [*windows(labels.shape, 300), (511, 511, 2, 2), (0, 0, 703, 1101)]:
            np.testing.assert_array_equal(file.read(y, x, h, w), labels[y : y + h, x : x + w])


def test_windows_may_be_read_by_several_threads(path: Path, labels: np.ndarray) -> None:
    places = 20 * list(windows(labels.shape, 100))
    with closing(FileLabels(path)) as file, ThreadPoolExecutor(8) as pool:
        file._cache.resize(0)  # each window reads the file
        found = pool.map(lambda place: file.read(*place), places)
        for (y, x, h, w), window in zip(places, found, strict=True):
            np.testing.assert_array_equal(window, labels[y : y + h, x : x + w])


def test_levels_are_those_of_the_pyramid(path: Path, labels: np.ndarray) -> None:
    with closing(FileLabels(path, 1)) as file:
        assert file.level_count == 3
        np.testing.assert_array_equal(file.read(0, 0, *file.hw), halved(labels))
    with pytest.raises(SlideError, match=r"one of 0\.\.2. Received: level=3"):
        FileLabels(path, 3)
