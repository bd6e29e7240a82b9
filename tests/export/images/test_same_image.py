"""An image is the same in any file that keeps its pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from cellseg.export.images import same_image
from cellseg.export.images.same_image import image_hash
from cellseg.runtime.store.identity import content_hash
from tests.export.drawn_images import draw_discs, write_png


def test_pixels_in_another_container_are_the_same_image(tmp_path: Path) -> None:
    image, labels = draw_discs(0)
    write_png(tmp_path / "a.png", image)
    cv2.imwrite(str(tmp_path / "b.tif"), image[..., ::-1])
    tifffile.imwrite(tmp_path / "c.tif", image, tile=(32, 32), photometric="rgb")
    write_png(tmp_path / "d.png", image[..., 0])  # its three channels are one
    write_png(tmp_path / "e.png", image.astype(np.uint16))
    assert len({image_hash(path) for path in tmp_path.iterdir()}) == 1
    write_png(tmp_path / "other.png", labels.astype(np.uint8))
    assert image_hash(tmp_path / "other.png") != image_hash(tmp_path / "a.png")


def test_one_pixel_makes_another_image(tmp_path: Path) -> None:
    image, _ = draw_discs(0, (1300, 40))
    write_png(tmp_path / "a.png", image)
    image[-1, -1, -1] ^= 1
    write_png(tmp_path / "b.png", image)
    write_png(tmp_path / "c.png", image.reshape(40, 1300, 3))
    assert len({image_hash(path) for path in tmp_path.iterdir()}) == 3


def test_what_is_too_large_or_damaged_is_known_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "a.png", draw_discs(0)[0])
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert image_hash(tmp_path / "bad.png") == content_hash(tmp_path / "bad.png")
    monkeypatch.setattr(same_image, "_WHOLE_PX", 64 * 80 - 1)
    assert image_hash(tmp_path / "a.png") == content_hash(tmp_path / "a.png")
