"""Three channels are RGB only where nothing says that they are stains."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg.errors import SlideError
from cellseg.runtime.slides.channels import Colour, are_rgb
from cellseg.runtime.slides.readers import open_slide
from tests.slides import scene, whole

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
STAINS = ["DAPI", "FITC", "Cy5"]


@pytest.mark.parametrize(
    ("names", "colours"),
    [
        (["Red", "Green", "Blue"], [None] * 3),
        (["r", "g", "b"], [WHITE] * 3),
        (["Channel 0", "Channel:0:1", "C3"], [None] * 3),
        ([None, "", "2"], [None] * 3),
        ([], []),
        (["TRITC", "FITC", "DAPI"], [RED, GREEN, BLUE]),
    ],
)
def test_channels_that_are_rgb_or_say_nothing_are_rgb(
    names: list[str | None], colours: list[Colour | None]
) -> None:
    assert are_rgb(names, colours)


@pytest.mark.parametrize(
    ("names", "colours"),
    [
        (STAINS, [None] * 3),
        (STAINS, [WHITE] * 3),
        (STAINS[:1], [None]),
        (["Blue", "Green", "Red"], [None] * 3),
        (["Channel 0", "Channel 1", "Channel 2"], [BLUE, GREEN, RED]),
    ],
)
def test_stains_and_other_orders_are_not(
    names: list[str | None], colours: list[Colour | None]
) -> None:
    assert not are_rgb(names, colours)


def ome(path: Path, **channel: Any) -> Path:
    planes = np.moveaxis(scene(), -1, 0)
    about = {"axes": "CYX", "Channel": channel}
    tifffile.imwrite(path, planes, ome=True, photometric="minisblack", metadata=about)
    return path


def test_an_ome_tiff_of_three_stains_is_refused_by_their_names(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"channels=3 \(1 DAPI, 2 FITC, 3 Cy5\)") as caught:
        open_slide(ome(tmp_path / "a.ome.tif", Name=STAINS))
    assert "--channel DAPI" in str(caught.value.hint)


def test_an_ome_tiff_whose_channels_are_painted_red_green_and_blue_is_rgb(tmp_path: Path) -> None:
    painted = [-16776961, 16711935, 65535]  # signed 32-bit RGBA
    path = ome(tmp_path / "a.ome.tif", Name=["TRITC", "FITC", "DAPI"], Color=painted)
    with closing(open_slide(path)) as slide:
        assert np.array_equal(whole(slide), scene())
    with pytest.raises(SlideError, match="channels=3"):
        open_slide(ome(tmp_path / "b.ome.tif", Color=painted[::-1]))
