"""A slide is known again by its content."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store import identity as identity_module
from cellseg.runtime.store.identity import content_hash, slide_identity
from tests.slides import scene, write_svs

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from numpy.typing import NDArray


def identity(path: Path) -> str:
    with closing(open_slide(path)) as slide:
        return slide_identity(slide)


def test_identity_follows_the_content_not_the_name(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", scene(300, 400), compression="jpeg")
    before = identity(path)
    moved = path.rename(tmp_path / "b.svs")
    write_svs(path, scene(300, 400)[::-1], compression="jpeg")
    assert identity(moved) == before
    assert identity(path) != before


def test_a_dicom_slide_is_its_series_not_what_lies_beside_it(tmp_path: Path) -> None:
    def write(name: str, series: bytes, pixels: bytes) -> Path:
        head = bytes(128) + b"DICM" + b"\x20\x00\x0e\x00UI" + bytes([len(series), 0]) + series
        (tmp_path / name).write_bytes(head + pixels)
        return tmp_path / name

    first = write("b.dcm", b"1.2.3.4", b"level 0")
    alone = content_hash(first)
    write("a.dcm", b"1.2.3.9", b"another slide")
    assert content_hash(first) == alone
    write("c.dcm", b"1.2.3.4", b"level 1")
    assert content_hash(first) != alone


def write_plain(path: Path, image: NDArray[np.uint8]) -> Path:
    tifffile.imwrite(path, image, tile=(128, 128), photometric="rgb", software=False)
    return path


def test_one_pixel_in_the_middle_makes_another_slide(tmp_path: Path) -> None:
    image = np.zeros((1300, 1300, 3), np.uint8)  # 5 MB: neither end holds its middle
    path = write_plain(tmp_path / "a.tif", image)
    before = identity(path)
    image[650, 650] = 255
    assert identity(write_plain(path, image)) != before


def test_a_large_file_is_known_by_its_ends_and_samples_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_module, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(identity_module, "_END_BYTES", 1000)
    monkeypatch.setattr(identity_module, "_SAMPLE_BYTES", 100)
    image = np.zeros((300, 400, 3), np.uint8)
    path = write_plain(tmp_path / "a.tif", image)
    before = identity(path)
    assert identity(path) == before
    image[100:200] = 7
    assert identity(write_plain(path, image)) != before


def test_identity_of_an_array_covers_every_pixel() -> None:
    image = scene()
    changed = image.copy()
    changed[150, 200, 1] ^= 1
    assert slide_identity(ArraySlide(image)) == slide_identity(ArraySlide(image.copy()))
    assert slide_identity(ArraySlide(image)) != slide_identity(ArraySlide(changed))
