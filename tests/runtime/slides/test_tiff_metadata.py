"""Microns per pixel from every place vendors put it, and from none that is nonsense."""

from __future__ import annotations

import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tifffile

from cellseg.errors import SlideError
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.tiff_metadata import read_ome
from cellseg.runtime.view.doubts import slide_doubts
from cellseg.runtime.view.working import WorkingView
from tests.slides import grey, overwrite, scene, write_svs

MULTI_FILE = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="9"
SizeZ="1" SizeC="2" SizeT="1"><TiffData IFD="0"><UUID FileName="a.ome.tif">urn:uuid:1</UUID>
</TiffData><TiffData IFD="0" FirstC="1"><UUID FileName="b.ome.tif">urn:uuid:2</UUID></TiffData>
</Pixels></Image></OME>"""
COMPANION = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:2"/></OME>'
)
RENAMED = MULTI_FILE.replace("b.ome.tif", "a.ome.tif").replace("uuid:2<", "uuid:1<")
VIPS = """<image><properties><property>
<name>openslide.mpp-x</name><value type="gdouble">0.2457</value></property><property>
<name>openslide.mpp-y</name><value type="gdouble">0.2459</value></property>
</properties></image>"""
PHILIPS = (
    '<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">'
    "&quot;0.000226891&quot; &quot;0.000226907&quot;</Attribute>"
)


def mpp_of(path: Path) -> tuple[float, float] | None:
    with closing(open_slide(path)) as slide:
        return slide.mpp


def written(path: Path, **options: Any) -> tuple[float, float] | None:
    tifffile.imwrite(path, grey(), tile=(64, 64), **{"metadata": None, **options})
    return mpp_of(path)


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [((40_000, 40_000), "CENTIMETER", 0.25), ((101_600, 101_600), "INCH", 0.25),
     ((72, 72), "INCH", None), ((96, 96), "INCH", None), ((300, 300), "INCH", None),
     ((28, 28), "CENTIMETER", None), ((40_000, 40_000), "NONE", None),
     ((4e6, 4e6), "CENTIMETER", None), ((40_000, 5_000), "CENTIMETER", None)],
)  # fmt: skip
def test_resolution_tag_counts_where_a_microscope_can_have_it(
    tmp_path: Path, resolution: tuple[float, float], unit: str, expected: float | None
) -> None:
    mpp = written(tmp_path / "a.tif", resolution=resolution, resolutionunit=unit)
    assert mpp == (None if expected is None else pytest.approx((expected, expected)))


def test_axes_may_differ(tmp_path: Path) -> None:
    mpp = written(tmp_path / "a.tif", resolution=(40_000, 20_000), resolutionunit="CENTIMETER")
    assert mpp == pytest.approx((0.25, 0.5))


@pytest.mark.parametrize(("text", "expected"), [("0.2325", 0.2325), ("0,2325", 0.2325)])
def test_aperio_mpp_counts_and_magnification_does_not(
    tmp_path: Path, text: str, expected: float
) -> None:
    """The slide calls itself 20x, which at 0.23 microns is no contradiction."""
    path = write_svs(tmp_path / "a.svs", scene(), mpp=text, compression="jpeg")
    assert mpp_of(path) == (expected, expected)


def test_aperio_slide_without_mpp_has_none(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", scene(), mpp="", compression="jpeg")
    assert mpp_of(path) is None


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [(0.25, "µm", 0.25), (250, "nm", 0.25), (0.00025, "mm", 0.25), (0.25, "pixel", None),
     (1, "reference frame", None), (2500, "Å", 0.25)],
)  # fmt: skip
def test_ome_physical_size_has_units(
    tmp_path: Path, size: float, unit: str, expected: float | None
) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": 2 * size}
    units = {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    mpp = written(tmp_path / "a.ome.tif", ome=True, metadata=metadata | units)
    assert mpp == (None if expected is None else pytest.approx((expected, 2 * expected)))


@pytest.mark.parametrize("tile", [None, (64, 64)])
@pytest.mark.parametrize(("x", "y"), [(250.0, 250.0), (1.0, 0.3)])
def test_a_size_that_cannot_be_is_said_and_not_believed(
    tmp_path: Path, x: float, y: float, tile: tuple[int, int] | None
) -> None:
    path, metadata = tmp_path / "a.ome.tif", {"axes": "YX", "PhysicalSizeX": x, "PhysicalSizeY": y}
    tifffile.imwrite(path, grey(), ome=True, metadata=metadata, tile=tile)
    with closing(open_slide(path)) as slide:
        assert slide.mpp is None
        (doubt,) = slide_doubts(slide)
        assert f"it says {x:g} x {y:g} µm a pixel, which cannot be" in doubt
        assert slide_doubts(slide, needs_mpp=False) == []
        if tile is not None:
            with pytest.raises(SlideError, match="which cannot be, and the model needs 0.5"):
                WorkingView(slide, 0.5)
    with closing(open_slide(path, mpp=0.25)) as slide:
        assert slide_doubts(slide) == []


@pytest.mark.parametrize(
    ("description", "expected"), [(VIPS, (0.2457, 0.2459)), (PHILIPS, (0.226907, 0.226891))]
)
def test_converted_slides_keep_their_pixel_size(
    tmp_path: Path, description: str, expected: tuple[float, float]
) -> None:
    assert written(tmp_path / "a.tif", description=description) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("um", 0.5), ("UM", 0.5), ("\\u00B5m", 0.5), ("\\u00b5m", 0.5), ("micron", 0.5),
     ("micrometers", 0.5), ("pixel", None), ("Mm", None)],
)  # fmt: skip
def test_imagej_unit_gives_the_resolution_its_meaning(
    tmp_path: Path, unit: str, expected: float | None
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, grey(), imagej=True, resolution=(2, 2), metadata={"unit": unit})
    assert mpp_of(path) == (None if expected is None else pytest.approx((expected, expected)))


@pytest.mark.parametrize(
    ("kind", "count", "bits", "expected"),
    [("LONG", 1, 20_000, 0.5), ("FLOAT", 1, 0x469C4000, 0.5), ("SHORT", 2, 20_000, None)],
)
def test_a_resolution_that_is_no_fraction_does_not_end_the_reading(
    tmp_path: Path, kind: str, count: int, bits: int, expected: float | None
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, grey(), resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    code = {"SHORT": 3, "LONG": 4, "FLOAT": 11}[kind]
    with tifffile.TiffFile(path) as tif:
        places = [tif.pages.first.tags[tag].offset for tag in (282, 283)]
    for place in places:
        overwrite(path, place + 2, struct.pack("<HII", code, count, bits))
    assert mpp_of(path) == (None if expected is None else pytest.approx((expected, expected)))


def test_given_mpp_overrides_the_file(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", scene(), compression="jpeg")
    with closing(open_slide(path, mpp=0.3)) as slide:
        assert slide.mpp == (0.3, 0.3)
        assert slide.properties["mpp from"] == "given"


@pytest.mark.parametrize("xml", [MULTI_FILE, COMPANION], ids=["names", "companion"])
def test_ome_tiff_spread_over_files_is_refused(xml: str) -> None:
    with pytest.raises(SlideError, match="spread over several files") as caught:
        read_ome(xml, "a.ome.tif")
    assert "single OME-TIFF" in str(caught.value.hint)


def test_ome_tiff_that_was_renamed_is_still_one_file() -> None:
    image = read_ome(RENAMED, "moved.ome.tif")
    assert image is not None
    assert image.files == 1


@pytest.mark.parametrize("xml", ["<OME><Image>", '<!DOCTYPE a [<!ENTITY b "c">]><OME/>'])
def test_damaged_or_dangerous_xml_is_refused(xml: str) -> None:
    with pytest.raises(SlideError, match="OME-XML"):
        read_ome(xml, "a.ome.tif")
