"""The [wsi] adapter: OpenSlide's pixels, window by window, and what is said where it is missing."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg.errors import SlideError
from cellseg.runtime.slides.openslide import OpenSlideSlide
from cellseg.runtime.slides.readers import open_slide
from tests.fakes import fake_bundle, run_fake
from tests.slides import overwrite, scene, whole, write_svs


@pytest.fixture(autouse=True)
def _wsi_extra(request: pytest.FixtureRequest) -> None:
    if "missing" not in request.node.name:
        pytest.importorskip("openslide", reason="the [wsi] extra is not installed")


@pytest.mark.parametrize("name", ["fluo-dapi.ndpi", "camelyon-resampled.dcm"])
def test_real_slide_has_openslides_pixels(shared_data: Path, name: str) -> None:
    import openslide

    path = shared_data / "slides" / name
    with closing(open_slide(path)) as slide, openslide.OpenSlide(path) as oracle:
        assert slide.kind == "slide"
        level = len(slide.levels) - 1
        extent = slide.levels[level]
        size_wh = (extent.width_px, extent.height_px)
        expected = np.asarray(oracle.read_region((0, 0), level, size_wh).convert("RGB"))
        assert np.array_equal(whole(slide, level), expected)


def test_real_ndpi_states_its_pixel_size(shared_data: Path) -> None:
    with closing(open_slide(shared_data / "slides" / "fluo-dapi.ndpi")) as slide:
        assert slide.mpp == pytest.approx((0.2282, 0.2282), abs=1e-4)


def test_window_across_blocks_is_the_crop_of_the_whole(shared_data: Path) -> None:
    with closing(open_slide(shared_data / "slides" / "fluo-dapi.ndpi")) as slide:
        window = slide.read_region(1, (900, 1000), (300, 200))
        assert np.array_equal(window, whole(slide, 1)[900:1200, 1000:1200])


def test_folder_of_dicom_files_is_opened(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "slides" / "camelyon-resampled.dcm"
    (tmp_path / "one.dcm").write_bytes(source.read_bytes())
    with closing(open_slide(tmp_path)) as slide:
        assert (slide.levels[0].width_px, slide.levels[0].height_px) == (1152, 700)


def test_a_folder_of_dicom_files_and_other_slides_is_refused(
    shared_data: Path, tmp_path: Path
) -> None:
    for name in ("camelyon-resampled.dcm", "cmu-1-small-region.svs"):
        (tmp_path / name).write_bytes((shared_data / "slides" / name).read_bytes())
    with pytest.raises(SlideError, match=r"others, too, such as cmu-1") as caught:
        open_slide(tmp_path)
    assert str(tmp_path / "camelyon-resampled.dcm") in str(caught.value.hint)


def test_a_folder_of_two_dicom_series_is_refused_with_a_file_of_each(
    shared_data: Path, tmp_path: Path
) -> None:
    data = (shared_data / "slides" / "camelyon-resampled.dcm").read_bytes()
    place = data.index(b"\x20\x00\x0e\x00UI") + 8
    other = data[:place] + bytes([data[place] + 1]) + data[place + 1 :]
    label = other.replace(b"VOLUME", b"LABEL\\", 1)
    for name, content in (("DICOMDIR", other), ("a.dcm", label), ("b.dcm", data)):
        (tmp_path / name).write_bytes(content)
    open_slide(tmp_path).close()
    for name, content in (("c.dcm", other), ("d.dcm", data)):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match="series=2") as caught:
        open_slide(tmp_path)
    assert f"{tmp_path / 'b.dcm'} {tmp_path / 'c.dcm'}." in str(caught.value.hint)


def test_results_of_a_folder_of_dicom_files_are_named_after_the_folder(
    shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / "slides" / "camelyon-resampled.dcm"
    for name in ("1.2.840.1", "1.2.840.2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "level0.dcm").write_bytes(source.read_bytes())
    bundle = fake_bundle(tmp_path / "m.cellseg").path
    result, _ = run_fake(tmp_path / "1.2.840.2", tmp_path / "out", bundle, mpp=0.5)
    assert result.folder == tmp_path / "out" / "1.2.840.2"
    assert result.report["input"]["path"].endswith("level0.dcm")


def test_transparent_parts_take_the_background_colour(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", scene(), compression="jpeg", subsampling=(1, 1))
    with closing(OpenSlideSlide(path)) as slide, closing(open_slide(path)) as ours:
        assert np.abs(whole(slide).astype(int) - whole(ours)).max() <= 1


@pytest.mark.parametrize(("overlap_px", "vendor"), [(16, "trestle"), (0, "MedScan 3.0")])
def test_seams_of_tiles_that_overlap_are_not_doubled(
    tmp_path: Path, overlap_px: int, vendor: str
) -> None:
    image, step = scene(), 64 - overlap_px
    rows = [image[y : y + 64] for y in range(0, 4 * step, step)]
    tiles = (row[:, x : x + 64] for row in rows for x in range(0, 5 * step, step))
    about = f"Background Color=FFFFFF;Objective Power=20;OverlapsXY={overlap_px} {overlap_px} 0 0 "
    path = tmp_path / "a.tif"
    options = {"tile": (64, 64), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    tifffile.imwrite(path, tiles, shape=(256, 320, 3), dtype=np.uint8, description=about,
                     software="MedScan 3.0", **options)  # fmt: skip
    with closing(open_slide(path)) as slide:
        assert slide.properties["vendor"] == vendor
        window = slide.read_region(0, (0, 0), (3 * step, 4 * step))
        assert np.abs(window.astype(int) - image[: 3 * step, : 4 * step]).mean() < 4


@pytest.mark.parametrize("suffix", ["ndpi", "mrxs", "scn", "dcm"])
def test_damaged_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"II*\0" + bytes(200))
    with pytest.raises(SlideError, match="OpenSlide cannot open it"):
        open_slide(path)


def test_a_damaged_block_does_not_spoil_the_others(tmp_path: Path) -> None:
    """OpenSlide's handles fail for good after an error."""
    image = scene(1100, 2100)
    path = write_svs(tmp_path / "a.svs", image, compression="jpeg", subsampling=(1, 1))
    with tifffile.TiffFile(path) as tif:
        overwrite(path, tif.pages.first.dataoffsets[0], bytes(40))
    with closing(OpenSlideSlide(path)) as slide:
        for _ in range(2):
            with pytest.raises(SlideError, match=r"level 0: the tile at row 0, column 0"):
                slide.read_region(0, (0, 0), (10, 10))
            assert slide.read_region(0, (0, 1024), (10, 10)).shape == (10, 10, 3)
        slide.source.skips_damage = True
        window = whole(slide)
        assert (window[:1024, :1024] == 255).all()
        assert np.abs(window[:, 1024:].astype(int) - image[:, 1024:]).mean() < 3
    assert slide.source.damaged_count == 1


def test_missing_extra_is_said_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    (tmp_path / "a.ndpi").write_bytes(b"II*\0" + bytes(200))
    with pytest.raises(SlideError, match="needs OpenSlide") as caught:
        open_slide(tmp_path / "a.ndpi")
    assert caught.value.hint == "pip install 'cellseg[wsi]'"


def test_an_openslide_that_does_not_load_is_one_for_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packages" / "openslide"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('no libopenslide.so.1')")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "openslide", raising=False)
    (tmp_path / "a.ndpi").write_bytes(b"II*\0" + bytes(200))
    with pytest.raises(SlideError, match=r"Received: no libopenslide\.so\.1") as caught:
        open_slide(tmp_path / "a.ndpi")
    assert "cellseg-cli doctor" in str(caught.value.hint)
