"""Which pages are levels: pyramids in both places, label and thumbnail left out, damage refused."""

from __future__ import annotations

import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg.errors import SlideError
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.view.doubts import slide_doubts
from tests.slides import (
    grey,
    halved,
    loop_pages,
    overwrite,
    scene,
    tag_value_offset,
    whole,
    write_pyramid,
    write_svs,
)

BIG_MOTOROLA = {"bigtiff": True, "byteorder": ">"}


def sizes(path: Path) -> list[tuple[int, int, float]]:
    with closing(open_slide(path)) as slide:
        return [(lv.width_px, lv.height_px, lv.downsample) for lv in slide.levels]


@pytest.mark.parametrize("subifds", [True, False], ids=["SubIFDs", "chain"])
def test_pyramid_is_found_wherever_it_lies(tmp_path: Path, subifds: bool) -> None:
    path = write_pyramid(tmp_path / "a.tif", scene(), subifds=subifds, compression="deflate")
    assert sizes(path) == [(407, 301, 1), (203, 150, 2), (101, 75, 4)]


def test_label_macro_and_thumbnail_are_no_levels(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", scene(), compression="jpeg")
    assert sizes(path) == [(407, 301, 1), (203, 150, 2)]


def test_tiled_label_of_another_shape_is_no_level(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for image in (scene(), halved(scene()), scene(60, 60), scene(140, 203)):
            tif.write(image, tile=(64, 64), photometric="rgb", metadata=None)
    assert sizes(path) == [(407, 301, 1), (203, 150, 2)]


def test_another_picture_of_half_the_size_is_no_level(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for image in (scene(400, 300), halved(scene(400, 300))[::-1]):
            tif.write(image, photometric="rgb", metadata=None)
    assert sizes(path) == [(300, 400, 1)]


@pytest.mark.parametrize("options", [{}, {"tile": (64, 64)}])
def test_pictures_of_a_like_size_on_other_pages_are_named(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for image in (scene(90, 70), scene(290, 300), scene(), scene(200, 310)):
            tif.write(image, photometric="rgb", metadata=None, **options)
    with closing(open_slide(path)) as slide:
        assert np.array_equal(whole(slide), scene())
        (doubt,) = slide_doubts(slide)
    assert "only that of 407 x 301 px is read" in doubt
    assert "Not read: page 2 (300 x 290), page 4 (310 x 200)." in doubt


def test_a_tiled_field_of_nearly_the_same_shape_is_no_level(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for side in (400, 340):
            tif.write(scene(side, side), tile=(64, 64), photometric="rgb", metadata=None)
    assert sizes(path) == [(400, 400, 1)]
    with closing(open_slide(path)) as slide:
        assert "Not read: page 2 (340 x 340)." in slide_doubts(slide)[0]


def test_levels_labels_and_thumbnails_are_no_other_pictures(tmp_path: Path) -> None:
    paths = [
        write_svs(tmp_path / "a.svs", scene(), compression="jpeg"),
        write_pyramid(tmp_path / "b.tif", scene(), subifds=False),
    ]
    for path in paths:
        with closing(open_slide(path)) as slide:
            assert slide_doubts(slide) == []


def test_thumbnail_before_the_slide_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(scene(90, 70), photometric="rgb", metadata=None)
        tif.write(scene(), tile=(64, 64), photometric="rgb", metadata=None)
    assert sizes(path) == [(407, 301, 1)]


def test_pages_that_lead_back_to_themselves_are_refused(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", scene(), subifds=False)
    loop_pages(path)
    with pytest.raises(SlideError, match="runs in a circle"):
        open_slide(path)


@pytest.mark.parametrize("options", [{}, BIG_MOTOROLA], ids=["TIFF", "BigTIFF"])
def test_page_that_lies_past_the_end_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene(), tile=(64, 64), metadata=None, **options)
    layout = (8, ">Q") if options else (4, "<I")
    overwrite(path, layout[0], struct.pack(layout[1], 10_000_000))
    with pytest.raises(SlideError, match=r"a\.tif"):
        open_slide(path)


def test_subifd_that_leads_back_is_ignored(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", scene(), subifds=True)
    first = struct.unpack_from("<I", path.read_bytes(), 4)[0]
    overwrite(path, tag_value_offset(path, 330), struct.pack("<I", first))
    assert sizes(path) == [(407, 301, 1), (101, 75, 4)]


@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"tile": (64, 64)}], ids=str)
def test_stack_is_refused_with_what_to_do(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([grey()] * 5), photometric="minisblack", **options)
    with pytest.raises(SlideError, match="must be one image") as caught:
        open_slide(path)
    assert "a file of its own" in str(caught.value.hint)


def ome(path: Path, data: Any, axes: str, **metadata: Any) -> Path:
    described = {"axes": axes, **metadata}
    colour = "rgb" if axes.endswith("S") else "minisblack"
    options = {"tile": (64, 64), "photometric": colour}
    tifffile.imwrite(path, data, ome=True, metadata=described, **options)
    return path


def test_ome_single_channel_becomes_rgb(tmp_path: Path) -> None:
    path = ome(tmp_path / "a.ome.tif", grey(), "YX")
    with closing(open_slide(path)) as slide:
        assert np.array_equal(whole(slide), np.dstack([grey()] * 3))


def test_ome_three_channels_become_rgb(tmp_path: Path) -> None:
    path = ome(tmp_path / "a.ome.tif", np.moveaxis(scene(), -1, 0), "CYX")
    with closing(open_slide(path)) as slide:
        assert np.array_equal(whole(slide), scene())


@pytest.mark.parametrize("channel", ["", '<Channel ID="Channel:0:0"/>'])
def test_ome_samples_are_the_pages_where_the_xml_does_not_say(tmp_path: Path, channel: str) -> None:
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="407" SizeY="301" '
        f'SizeC="3" SizeZ="1" SizeT="1">{channel}</Pixels></Image></OME>'
    )
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, scene(), photometric="rgb", description=xml, metadata=None)
    with closing(open_slide(path)) as slide:
        assert np.array_equal(whole(slide), scene())


def test_ome_three_channel_pyramid_keeps_its_levels(tmp_path: Path) -> None:
    path, planes = tmp_path / "a.ome.tif", np.moveaxis(scene(), -1, 0)
    options = {"tile": (64, 64), "photometric": "minisblack"}
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(planes, subifds=1, metadata={"axes": "CYX"}, **options)
        tif.write(np.ascontiguousarray(planes[:, :300:2, :406:2]), subfiletype=1, **options)
    with closing(open_slide(path)) as slide:
        assert len(slide.levels) == 2
        assert np.array_equal(whole(slide, 1), halved(scene()))


def test_ome_pyramid_in_subifds_is_found(tmp_path: Path) -> None:
    path, options = tmp_path / "a.ome.tif", {"tile": (64, 64), "photometric": "rgb"}
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as tif:
        tif.write(scene(), subifds=2, metadata={"axes": "YXS"}, **options)
        for times in (1, 2):
            tif.write(halved(scene(), times), subfiletype=1, **options)
    assert sizes(path) == [(407, 301, 1), (203, 150, 2), (101, 75, 4)]


@pytest.mark.parametrize(
    ("axes", "shape", "named"),
    [("ZYX", (3, 99, 88), "3 planes"), ("TYX", (2, 99, 88), "2 planes"),
     ("CYX", (2, 99, 88), "channels=2"), ("CYX", (5, 99, 88), "channels=5"),
     ("TCYX", (2, 3, 99, 88), "2 planes")],
)  # fmt: skip
def test_ome_stack_is_refused(
    tmp_path: Path, axes: str, shape: tuple[int, ...], named: str
) -> None:
    path = ome(tmp_path / "a.ome.tif", np.zeros(shape, np.uint8), axes)
    with pytest.raises(SlideError, match=named):
        open_slide(path)


def test_ome_label_image_beside_the_slide_is_no_level(tmp_path: Path) -> None:
    path, options = tmp_path / "a.ome.tif", {"tile": (64, 64), "photometric": "rgb"}
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(scene(60, 80), metadata={"axes": "YXS", "Name": "label"}, **options)
        tif.write(scene(), metadata={"axes": "YXS", "Name": "slide"}, **options)
    with closing(open_slide(path)) as slide:
        assert np.array_equal(whole(slide), scene())
