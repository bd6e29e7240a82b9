"""The picture of a scan that grows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg.live.mosaic.preview import MosaicPreview
from cellseg.live.mosaic.preview_files import PreviewFiles
from tests.fakes import nuclei_picture

PALETTE = ((0, 0, 0), (0, 255, 0))
PICTURE = nuclei_picture(160, 200, seed=2)
CLASSES = (PICTURE[..., 1] > 128).astype(np.uint8)
SIDE = 40


def scan(preview: MosaicPreview, offset: int = 0) -> None:
    """Show the picture in fields, from the last to the first, so that it grows to all sides."""
    for y in range(120, -1, -SIDE):
        for x in range(160, -1, -SIDE):
            yx = (float(y + offset), float(x + offset))
            preview.show_frame(PICTURE[y : y + SIDE, x : x + SIDE], yx)
            preview.show_classes(CLASSES[y : y + SIDE, x : x + SIDE], yx)


@pytest.mark.parametrize("offset", [0, -1000, 77], ids="offset={}".format)
def test_fields_come_together_wherever_the_stage_counts_from(offset: int) -> None:
    preview = MosaicPreview(PALETTE)
    scan(preview, offset)
    np.testing.assert_array_equal(preview.classes()[:160, :200], CLASSES)
    untouched = CLASSES == 0
    np.testing.assert_array_equal(preview.overlay()[:160, :200][untouched], PICTURE[untouched])


def test_a_large_scan_gets_coarser_and_keeps_its_places() -> None:
    preview = MosaicPreview(PALETTE, side_px=60)
    scan(preview)
    assert preview.scale == 4
    found = preview.overlay().astype(int)
    assert max(found.shape) <= 60
    small = cv2.resize(PICTURE, (50, 40), interpolation=cv2.INTER_AREA).astype(int)
    plain = preview.classes()[:40, :50] == 0
    assert np.abs(found[:40, :50] - small)[plain].mean() < 12


def test_sixteen_bits_are_shown_in_one_range() -> None:
    preview = MosaicPreview(PALETTE)
    preview.show_frame(np.full((10, 10), 100, np.uint16), (0, 0))
    preview.show_frame(np.full((10, 10), 1100, np.uint16), (0, 10))
    preview.show_frame(np.full((10, 10), 600, np.uint16), (0, 20))
    shown = preview.overlay()[5, 5:30:10, 0].tolist()
    assert shown[1] == 255
    assert 120 <= shown[2] <= 130


def test_files_hold_what_is_shown_and_go_when_told(tmp_path: Path) -> None:
    preview = MosaicPreview(PALETTE)
    files = PreviewFiles(tmp_path, preview, PALETTE)
    files.write_now_and_then()
    assert list(tmp_path.iterdir()) == []
    scan(preview)
    files.write()
    classes = cv2.imread(str(tmp_path / "preview-classes.png"))
    np.testing.assert_array_equal(classes[:160, :200, 1] == 255, CLASSES == 1)
    assert cv2.imread(str(tmp_path / "preview.jpg")).shape == preview.overlay().shape
    files.remove()
    assert list(tmp_path.iterdir()) == []
