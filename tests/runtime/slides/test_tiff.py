"""TIFF pixels: every compression and layout against tifffile's own decoding of the whole page.

Colours are checked against a second reader where one can read the file: OpenSlide (SVS, generic
pyramids) and libvips (OME-TIFF) on real slides.
"""

from __future__ import annotations

import struct
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellseg.errors import SlideError
from cellseg.runtime.slides.readers import open_slide
from tests.slides import (
    grey,
    halved,
    overwrite,
    pad_strips,
    scene,
    tag_value_offset,
    whole,
    write_pyramid,
    write_svs,
)

TILED = {"tile": (128, 112)}
STRIPPED = {"rowsperstrip": 50}
LOSSLESS = [None, "lzw", "deflate", "zstd", "packbits", "lzma", "png"]
LOSSY = ["jpeg", "jpeg2000", "webp", "jpegxl", "aperio_jp2000_rgb"]
BIG_MOTOROLA = {"bigtiff": True, "byteorder": ">"}


def read(path: Path, level: int = 0) -> NDArray[Any]:
    with closing(open_slide(path)) as slide:
        return whole(slide, level)


def check_against_tifffile(path: Path) -> None:
    expected = tifffile.imread(path)
    if expected.ndim == 2:
        expected = np.dstack([expected] * 3)
    assert np.array_equal(read(path), expected)


@pytest.mark.parametrize("layout", [TILED, STRIPPED, TILED | BIG_MOTOROLA], ids=str)
@pytest.mark.parametrize("compression", LOSSLESS + LOSSY)
def test_rgb_reads_as_tifffile_reads_it(
    tmp_path: Path, compression: str | None, layout: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene(), photometric="rgb", compression=compression, **layout)
    check_against_tifffile(path)
    if compression in LOSSLESS:
        assert np.array_equal(read(path), scene())


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", [TILED, STRIPPED, {}], ids=str)
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd"])
def test_grey_16_bit_keeps_its_depth(
    tmp_path: Path, compression: str | None, layout: dict[str, Any], byteorder: Any
) -> None:
    path, image = tmp_path / "a.tif", grey(dtype=np.uint16)
    tifffile.imwrite(path, image, compression=compression, byteorder=byteorder, **layout)
    assert read(path).dtype == np.uint16
    assert np.array_equal(read(path), np.dstack([image] * 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd"])
def test_horizontal_predictor_is_undone(tmp_path: Path, compression: str, dtype: Any) -> None:
    path, image = tmp_path / "a.tif", scene(dtype=dtype)
    options = {"photometric": "rgb", "predictor": True, "tile": (128, 128)}
    tifffile.imwrite(path, image, compression=compression, **options)
    assert np.array_equal(read(path), image)


@pytest.mark.parametrize("layout", [TILED, STRIPPED, {}], ids=str)
@pytest.mark.parametrize("compression", [None, "lzw", "jpeg"])
def test_separate_planes_are_put_together(
    tmp_path: Path, compression: str | None, layout: dict[str, Any]
) -> None:
    path, planes = tmp_path / "a.tif", np.moveaxis(scene(), -1, 0)
    options = {"photometric": "rgb", "planarconfig": "separate", "compression": compression}
    tifffile.imwrite(path, planes, **options, **layout)
    assert np.array_equal(read(path), np.moveaxis(tifffile.imread(path), 0, -1))


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)], ids=str)
def test_jpeg_colours_survive_chroma_subsampling(
    tmp_path: Path, subsampling: tuple[int, int]
) -> None:
    path = tmp_path / "a.tif"
    options = {"photometric": "rgb", "compression": "jpeg", "tile": (128, 128)}
    tifffile.imwrite(path, scene(), subsampling=subsampling, **options)
    assert np.abs(read(path).astype(int) - scene()).mean() < 2
    check_against_tifffile(path)


def test_abbreviated_jpeg_tables_are_used(tmp_path: Path) -> None:
    path, image = tmp_path / "a.tif", scene(256, 256)
    streams = [image[y : y + 128, x : x + 128] for y in (0, 128) for x in (0, 128)]
    encoded = [imagecodecs.jpeg_encode(np.ascontiguousarray(part)) for part in streams]
    tables, tiles = zip(*(split_tables(data) for data in encoded), strict=True)
    tifffile.imwrite(
        path, iter(tiles), shape=image.shape, dtype=image.dtype, tile=(128, 128),
        compression="jpeg", photometric="rgb", metadata=None,
        extratags=[(347, 7, len(tables[0]), tables[0], True)],
    )  # fmt: skip
    set_photometric(path, 6)
    decoded = [imagecodecs.jpeg_decode(data) for data in encoded]
    expected = np.vstack([np.hstack(decoded[:2]), np.hstack(decoded[2:])])
    assert np.array_equal(read(path), expected)


def split_tables(jpeg: bytes) -> tuple[bytes, bytes]:
    """Split a JPEG into its tables and what is left, each a stream of its own."""
    tables, rest, position = b"", b"", 2
    while jpeg[position + 1] != 0xDA:
        size = 2 + struct.unpack_from(">H", jpeg, position + 2)[0]
        part = jpeg[position : position + size]
        is_table = part[1] in (0xDB, 0xC4)
        tables, rest = (tables + part, rest) if is_table else (tables, rest + part)
        position += size
    start, end = b"\xff\xd8", b"\xff\xd9"
    return start + tables + end, start + rest + jpeg[position:]


def set_photometric(path: Path, value: int) -> None:
    overwrite(path, tag_value_offset(path, 262), struct.pack("<H", value))


def test_aperio_ycbcr_jpeg2000_becomes_rgb(tmp_path: Path) -> None:
    image = scene(256, 256)
    ycbcr = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    options = {"compression": "aperio_jp2000_ycbc", "compressionargs": {"mct": False}}
    path = write_svs(tmp_path / "a.svs", ycbcr, **options)
    assert np.abs(read(path).astype(int) - image).max() <= 1


@pytest.mark.parametrize(("software", "is_ycbcr"), [(False, True), ("somebody's", False)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_jpeg2000_of_libvips_is_ycbcr(
    tmp_path: Path, dtype: Any, software: Any, is_ycbcr: bool
) -> None:
    """As its source says (``vips tiffsave --compression jp2k``); none that has it was at hand."""
    image, path = scene(256, 256).astype(dtype) * (1 if dtype == np.uint8 else 256), tmp_path / "a"
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]] if is_ycbcr else image
    options = {"compression": "jpeg_2000_lossy", "photometric": "rgb", "tile": (128, 128)}
    path = path.with_suffix(".tif")
    tifffile.imwrite(path, stored, metadata=None, software=software, **options)
    apart = np.abs(read(path).astype(int) - image).max()
    assert apart <= (2 if dtype == np.uint8 else 40)


@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("compression", ["aperio_jp2000_ycbc", "jpeg"])
def test_what_bio_formats_marks_as_ycbcr_is_rgb(
    tmp_path: Path, compression: str, layout: str
) -> None:
    """As ``bfconvert`` and QuPath write, against the pixels that Bio-Formats 7.3 reads back."""
    image, path = scene(256, 256), tmp_path / "a.tif"
    is_jpeg = compression == "jpeg"
    options = {"compressionargs": {} if is_jpeg else {"mct": False}, "planarconfig": layout}
    planes = image if layout == "contig" else np.ascontiguousarray(np.moveaxis(image, -1, 0))
    tifffile.imwrite(
        path, planes, compression=compression, photometric="rgb", tile=(128, 128), metadata=None,
        software="OME Bio-Formats 7.3.1", **options,
    )  # fmt: skip
    if is_jpeg and layout == "separate":
        set_photometric(path, 6)
    apart = np.abs(read(path).astype(int) - image)
    assert apart.mean() < 3 if is_jpeg else not apart.any()


def test_an_rgb_picture_that_calls_itself_a_stack_of_its_colours_is_read(tmp_path: Path) -> None:
    """As ``bfconvert IN OUT.tif`` describes one for ImageJ."""
    image, path = scene(64, 80), tmp_path / "a.tif"
    text = "ImageJ=\nhyperstack=true\nimages=3\nchannels=3\nslices=1\nframes=1"
    planes = np.ascontiguousarray(np.moveaxis(image, -1, 0))
    options = {"photometric": "rgb", "planarconfig": "separate", "metadata": None}
    tifffile.imwrite(path, planes, description=text, **options)
    assert np.array_equal(read(path), image)


def test_planes_of_jpeg_that_are_ycbcr_become_rgb(tmp_path: Path) -> None:
    image, path = scene(256, 256), tmp_path / "a.tif"
    ycbcr = np.moveaxis(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]], -1, 0)
    options = {"photometric": "rgb", "planarconfig": "separate", "compression": "jpeg"}
    tifffile.imwrite(path, np.ascontiguousarray(ycbcr), tile=(128, 128), metadata=None, **options)
    set_photometric(path, 6)
    assert np.abs(read(path).astype(int) - image).mean() < 3


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_alpha_is_composited_unless_it_is_unspecified(tmp_path: Path, kind: str) -> None:
    path, rgba = tmp_path / "a.tif", np.zeros((9, 7, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 50, 100
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=[kind])
    expected = {"unassalpha": (50 * 100 + 255 * 155 + 127) // 255, "assocalpha": 205}
    assert read(path)[0, 0, 0] == expected.get(kind, 50)


def test_palette_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(path, indices, photometric="palette", colormap=colours)
    assert np.array_equal(read(path), (colours >> 8).T.reshape(16, 16, 3))


def test_white_is_zero_is_inverted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, grey(), photometric="miniswhite")
    assert np.array_equal(read(path)[..., 0], 255 - grey())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_where_white_is_zero_what_is_transparent_is_not_turned(
    tmp_path: Path, dtype: Any, planarconfig: str
) -> None:
    full = np.iinfo(dtype).max
    image = np.stack([grey(dtype=dtype), np.full(grey().shape, full, dtype)], axis=2)
    image[:9, :, 1] = 0
    kind: Any = {"extrasamples": ["unassalpha"], "planarconfig": planarconfig}
    stored = image if planarconfig == "contig" else image.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", metadata=None, **kind)
    found = read(tmp_path / "a.tif")
    assert np.array_equal(found[9:, :, 0], full - image[9:, :, 0])
    assert (found[:9] == full).all()  # nothing there: paper


@pytest.mark.parametrize(
    ("samples", "kind"),
    [
        (4, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (1, {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}),
        (1, {"photometric": "miniswhite"}),
    ],
    ids=["alpha", "palette", "white is zero"],
)
def test_a_large_tile_takes_little_more_than_its_pixels(
    tmp_path: Path, samples: int, kind: dict[str, Any]
) -> None:
    image = np.zeros((1500, 1500, samples), np.uint8).squeeze()
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, tile=(1504, 1504), compression="zlib", **kind)
    with closing(open_slide(path)) as slide:
        tracemalloc.start()
        slide.read_region(0, (0, 0), (8, 8))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3 * 1504 * 1504 * 3  # what a plan of memory counts for it


@pytest.mark.parametrize("rows", [1, 7])
def test_strips_with_a_byte_to_spare_are_read_as_they_lie(tmp_path: Path, rows: int) -> None:
    image = grey(45, 61)
    tifffile.imwrite(tmp_path / "a.tif", image, rowsperstrip=rows)
    pad_strips(tmp_path / "a.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), image)
    assert np.array_equal(read(tmp_path / "a.tif")[..., 0], image)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_single_bits_become_black_and_white(tmp_path: Path, compression: str | None) -> None:
    path, mask = tmp_path / "a.tif", grey() > 128
    tifffile.imwrite(path, mask, photometric="minisblack", compression=compression)
    assert np.array_equal(read(path)[..., 0], np.where(mask, 255, 0))


def test_fax_codes_become_black_and_white(tmp_path: Path) -> None:
    coded_rows = "001 00110101 000101 11 000000000001 000000000001"  # T.6: two rows of 8 pixels set
    bits = coded_rows.replace(" ", "")
    coded = np.array(list(bits.ljust(48, "0")), int).astype(bool).reshape(6, 8)
    path = tmp_path / "fax.tif"
    tifffile.imwrite(path, coded, photometric="minisblack")
    with tifffile.TiffFile(path, mode="r+") as tif:
        tags = tif.pages[0].tags
        for name, value in (("Compression", 4), ("ImageLength", 2), ("RowsPerStrip", 2)):
            tags[name].overwrite(value)
    assert np.array_equal(read(path), np.full((2, 8, 3), 255))


def test_tiles_never_written_are_background(tmp_path: Path) -> None:
    colour, dark = tmp_path / "a.tif", tmp_path / "b.tif"
    for path, image in ((colour, scene(256, 256)), (dark, grey(256, 256))):
        tifffile.imwrite(path, image, tile=(128, 128), compression="deflate")
        overwrite(path, tag_value_offset(path, 325), struct.pack("<I", 0))
    assert (read(colour)[:128, :128] == 255).all()
    assert (read(dark)[:128, :128] == 0).all()
    assert np.array_equal(read(colour)[128:], scene(256, 256)[128:])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("layout", [TILED, STRIPPED, {}], ids=str)
def test_any_window_is_the_crop_of_the_whole(
    tmp_path: Path, layout: dict[str, Any], data: st.DataObject
) -> None:
    path = tmp_path / "a.tif"
    if not path.exists():
        tifffile.imwrite(path, scene(), photometric="rgb", compression=None, **layout)
    y0, x0 = data.draw(st.integers(0, 300)), data.draw(st.integers(0, 406))
    h, w = data.draw(st.integers(1, 301 - y0)), data.draw(st.integers(1, 407 - x0))
    with closing(open_slide(path)) as slide:
        window = slide.read_region(0, (y0, x0), (h, w))
    assert np.array_equal(window, scene()[y0 : y0 + h, x0 : x0 + w])


def test_only_touched_tiles_are_decoded_and_each_once(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", scene(), subifds=True, compression="deflate")
    with closing(open_slide(path)) as slide:
        slide.read_region(0, (64, 64), (64, 65))
        assert slide.source.cache.made == 2  # type: ignore[attr-defined]
        with ThreadPoolExecutor(8) as pool:
            for window in pool.map(lambda _: whole(slide), range(8)):
                assert np.array_equal(window, scene())
        assert slide.source.cache.made == 5 * 7  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)], ids=str)
@pytest.mark.parametrize("layout", [{"tile": (16, 16)}, {}], ids=str)
def test_thin_images_are_read(
    tmp_path: Path, shape: tuple[int, int], layout: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene(*shape), photometric="rgb", **layout)
    assert np.array_equal(read(path), scene(*shape))


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32, np.int8])
def test_pixels_of_another_type_are_refused(tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((9, 9), dtype))
    with pytest.raises(SlideError, match=f"dtype={np.dtype(dtype).name}") as caught:
        open_slide(path)
    assert "8 or 16 bits" in str(caught.value.hint)


def test_more_channels_than_rgb_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((9, 9, 5), np.uint8), planarconfig="contig")
    with pytest.raises(SlideError, match="channels=5"):
        open_slide(path)


def test_truncated_file_is_refused_at_once_with_its_first_lost_tile(tmp_path: Path) -> None:
    path, noise = (
        tmp_path / "a.tif",
        np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8),
    )
    tifffile.imwrite(path, noise, tile=(64, 64), compression="deflate")
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(SlideError, match=r"truncated: 5 of 16 tiles .* row 2, column 3"):
        open_slide(path)


@pytest.mark.parametrize("kept", [3, 9, 40, 150])
def test_file_cut_in_its_header_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene(), tile=(64, 64), compression="deflate")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SlideError, match=r"a\.tif"):
        open_slide(path)


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "jpeg2000"])
def test_corrupt_tile_is_named_and_the_others_are_read(tmp_path: Path, compression: str) -> None:
    path = write_pyramid(tmp_path / "a.tif", scene(), subifds=True, compression=compression)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages.first.dataoffsets[9]
    overwrite(path, offset, b"\0" * 40)
    with closing(open_slide(path)) as slide:
        with pytest.raises(
            SlideError, match=r"level 0: the tile at row 1, column 2 \(y=64, x=128, byte \d+\)"
        ):
            whole(slide)
        slide.read_region(0, (0, 0), (64, 407))


def test_absurd_size_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene(), tile=(64, 64), compression="deflate")
    for code in (256, 257):
        overwrite(path, tag_value_offset(path, code) - 6, struct.pack("<HII", 4, 1, 2**31))
    with pytest.raises(SlideError, match="width=2147483648"):
        open_slide(path)


def test_one_huge_compressed_strip_is_refused_with_the_command_that_tiles_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, grey(9, 9), compression="deflate")
    for code in (256, 257, 278):
        overwrite(path, tag_value_offset(path, code) - 6, struct.pack("<HII", 4, 1, 50_000))
    with pytest.raises(SlideError, match="2384 MB") as caught:
        open_slide(path)
    assert "--tile --pyramid" in str(caught.value.hint)


def test_huge_raw_strip_is_read_in_bands(tmp_path: Path) -> None:
    path, image = tmp_path / "a.tif", grey(2000, 30)
    tifffile.imwrite(path, image, rowsperstrip=2000)
    with closing(open_slide(path)) as slide:
        window = slide.read_region(0, (700, 0), (10, 30))
        assert np.array_equal(window[..., 0], image[700:710])
        assert slide.source.cache.made == 1  # type: ignore[attr-defined]


def test_tables_that_do_not_fit_the_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene(), tile=(64, 64), compression="deflate")
    overwrite(path, tag_value_offset(path, 257), struct.pack("<H", 900))
    with pytest.raises(SlideError, match="tables do not fit"):
        open_slide(path)


def test_kind_follows_tiling(tmp_path: Path) -> None:
    tiled, plain = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(tiled, scene(), tile=(64, 64))
    tifffile.imwrite(plain, scene())
    with closing(open_slide(tiled)) as slide, closing(open_slide(plain)) as image:
        assert (slide.kind, image.kind) == ("slide", "image")


@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_real_svs_has_the_pixels_that_openslide_sees(shared_data: Path, name: str) -> None:
    openslide = pytest.importorskip("openslide")
    path = shared_data / "slides" / name
    with closing(open_slide(path)) as slide, openslide.OpenSlide(path) as oracle:
        assert [(lv.width_px, lv.height_px) for lv in slide.levels] == [*oracle.level_dimensions]
        for level, extent in enumerate(slide.levels):
            size_wh = (min(900, extent.width_px), min(700, extent.height_px))
            expected = np.asarray(oracle.read_region((0, 0), level, size_wh).convert("RGB"))
            assert np.array_equal(slide.read_region(level, (0, 0), size_wh[::-1]), expected)


def test_written_svs_has_the_pixels_that_openslide_sees(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    path = write_svs(tmp_path / "a.svs", scene(), compression="jpeg", subsampling=(1, 1))
    with closing(open_slide(path)) as slide, openslide.OpenSlide(path) as oracle:
        assert len(slide.levels) == oracle.level_count == 2
        for level, extent in enumerate(slide.levels):
            size_wh = (extent.width_px, extent.height_px)
            expected = np.asarray(oracle.read_region((0, 0), level, size_wh).convert("RGB"))
            assert np.abs(whole(slide, level).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "name", ["os-1-detail.ome.tif", "os-2-ki67-ndpi.ome.tif", "os-2-ki67-vsi.ome.tif"]
)
def test_real_ome_tiff_has_the_pixels_that_libvips_decodes(shared_data: Path, name: str) -> None:
    """Bio-Formats calls its YCbCr JPEG tiles RGB; libvips believes it and shows raw YCbCr."""
    pyvips = pytest.importorskip("pyvips")
    path = shared_data / "slides" / name
    raw = pyvips.Image.new_from_file(str(path)).numpy()[..., :3]
    expected = cv2.cvtColor(np.ascontiguousarray(raw[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)
    assert np.abs(read(path).astype(int) - expected).max() <= 2


def test_levels_of_a_pyramid_are_what_was_written(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", scene(), subifds=True, compression="lzw")
    for level in range(3):
        assert np.array_equal(read(path, level), halved(scene(), level))


def test_any_damage_to_the_structure_gives_pixels_or_a_clear_error(tmp_path: Path) -> None:
    """A hundred files with one to three bytes of their tags overwritten."""
    path = write_pyramid(tmp_path / "a.tif", scene(150, 200), subifds=False, compression="lzw")
    with tifffile.TiffFile(path) as tif:
        tags = [tag.offset for page in tif.pages for tag in page.tags]  # type: ignore[union-attr]
    draw, data, refused = np.random.default_rng(0), path.read_bytes(), 0
    for _ in range(100):
        path.write_bytes(data)
        for _ in range(draw.integers(1, 4)):
            byte = int(draw.choice([0, 1, 2, 128, 255]))
            overwrite(path, int(draw.choice(tags)) + int(draw.integers(12)), bytes([byte]))
        try:
            assert read(path).dtype in (np.uint8, np.uint16)
        except SlideError:
            refused += 1
    assert 10 < refused < 90


@pytest.mark.parametrize("code", [256, 322], ids=["width", "tile width"])
def test_tag_with_too_many_values_is_refused(tmp_path: Path, code: int) -> None:
    """A tuple is read then, and a tuple times a number is a very long tuple."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene(), tile=(64, 64), metadata=None)
    overwrite(path, tag_value_offset(path, code) - 4, struct.pack("<I", 5))
    with pytest.raises(SlideError, match="must be one whole number"):
        open_slide(path)


def test_a_decoder_that_does_not_load_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene(), tile=(64, 64), compression="jpeg")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ImportError, match="imagecodecs"):
        open_slide(path)
