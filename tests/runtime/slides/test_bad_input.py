"""Bad input as a user meets it: one clear line, a hint, exit code 1, and no folder left behind."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.errors import SlideError, StoreError
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.source_tiles import source_of
from cellseg.runtime.store.lock import FolderLock
from tests.fakes import fake_bundle, nuclei_picture, run_fake
from tests.slides import loop_pages, overwrite, scene, tag_value_offset, whole, write_pyramid

MPP = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
_MOST_BYTES = 64 << 20


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """Write a sound pyramid of tiles; no predictor, so that damage is not hidden."""
    return write_pyramid(tmp_path / "a.tif", scene(), subifds=False, compression="zlib", **MPP)


def set_long(path: Path, code: int, value: int, page: int = 0) -> None:
    """Replace a tag by one number of 32 bits."""
    overwrite(path, tag_value_offset(path, code, page) - 6, struct.pack("<HII", 4, 1, value))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def absurd_image(path: Path) -> None:
    for code in (256, 257):
        set_long(path, code, 10**9)


def absurd_tile(path: Path) -> None:
    for code in (322, 323):
        set_long(path, code, 2**31)


def tile_of_no_size(path: Path) -> None:
    set_long(path, 322, 0)


def absurd_count(path: Path) -> None:
    """Let the table of offsets claim four thousand million entries."""
    overwrite(path, tag_value_offset(path, 258) - 6, struct.pack("<HI", 4, 2**32 - 1))


def page_in_the_pixels(path: Path) -> None:
    """Let the first page begin in the middle of the pixels."""
    overwrite(path, 4, struct.pack("<I", 1000))


def page_past_the_end(path: Path) -> None:
    """Cut a file off before its first page, as an interrupted copy does."""
    overwrite(path, 4, struct.pack("<I", 1 << 30))


def several_files(path: Path) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels DimensionOrder="XYCZT" ID="P:0" SizeX="64" SizeY="64" SizeC="1" SizeZ="1" '
        'SizeT="1" Type="uint8"><TiffData IFD="0"><UUID FileName="a.tif">urn:1</UUID></TiffData>'
        '<TiffData IFD="1"><UUID FileName="b.tif">urn:2</UUID></TiffData></Pixels></Image></OME>'
    )
    image = np.zeros((64, 64), np.uint8)
    tifffile.imwrite(path, image, tile=(64, 64), description=xml, metadata=None)


BAD = {
    "truncated": (cut, "truncated", "again"),
    "cyclic pages": (loop_pages, "runs in a circle", "again"),
    "cut before its pages": (page_past_the_end, "a page directory lies past its end", "again"),
    "wrong page": (page_in_the_pixels, "a.tif", ""),
    "absurd image": (absurd_image, "width=1000000000, height=1000000000", ""),
    "absurd tile": (absurd_tile, "at most 512 MB", "--tile --pyramid"),
    "tile of no size": (tile_of_no_size, "a tile must have a size", "again"),
    "absurd count": (absurd_count, "a.tif", ""),
    "several files": (several_files, "spread over several files", "single OME-TIFF"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["inspect", "infer"])
def test_bad_files_are_refused_in_one_line_before_anything_is_allocated(
    tmp_path: Path, slide: Path, name: str, command: str
) -> None:
    spoil, message, hint = BAD[name]
    spoil(slide)
    out = tmp_path / "out"
    model = fake_bundle(tmp_path / "fake.cellseg").path
    options = ["-o", str(out), "--model", str(model)] if command == "infer" else []
    result = CliRunner().invoke(app, [command, str(slide), *options])
    assert result.exit_code == 1, result.output
    assert f"error: {slide}" in result.stderr
    assert message in result.stderr
    assert hint in result.stderr.partition("hint:")[2]
    assert "Traceback" not in result.output
    assert "TiffPages" not in result.output  # what tifffile logs is no help to a user
    assert not out.exists() or not any(out.iterdir())


@pytest.mark.parametrize("name", BAD)
def test_bad_files_take_no_memory(slide: Path, name: str) -> None:
    BAD[name][0](slide)
    tracemalloc.start()
    try:
        with pytest.raises(SlideError):
            open_slide(slide)
        assert tracemalloc.get_traced_memory()[1] < _MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seed", range(40))
def test_a_file_with_wrong_bytes_in_its_tables_is_read_or_refused(slide: Path, seed: int) -> None:
    """Overwrite bytes of the page directories at random."""
    noise = np.random.default_rng(seed)
    with tifffile.TiffFile(slide) as tif:
        places = [(page.offset, 2 + 12 * len(page.tags)) for page in tif.pages]  # type: ignore[union-attr]
    for _ in range(int(noise.integers(1, 6))):
        start, size = places[noise.integers(len(places))]
        overwrite(slide, start + int(noise.integers(size)), noise.bytes(1))
    with suppress(SlideError), closing(open_slide(slide)) as opened:
        for level in opened.levels:
            extent = min(level.height_px, 200), min(level.width_px, 200)
            found = opened.read_region(opened.levels.index(level), (0, 0), extent)
            assert found.shape == (*extent, 3)


def test_a_slide_without_a_pyramid_runs_and_holds_no_more_than_its_cache(tmp_path: Path) -> None:
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, nuclei_picture(600, 900), tile=(64, 64), photometric="rgb",
                     compression="zlib", **MPP)  # type: ignore[arg-type]  # fmt: skip
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    result, _ = run_fake(path, tmp_path / "out", bundle, tile_px=64)
    assert result.report["status"] == "done"
    with closing(open_slide(path)) as opened:
        source = source_of(opened)
        assert source is not None
        source.cache.resize(10 * 64 * 64 * 3)
        whole(opened)
        assert source.cache._held_bytes <= 10 * 64 * 64 * 3


def test_a_slide_that_changed_between_two_runs_is_refused(tmp_path: Path, slide: Path) -> None:
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    run_fake(slide, tmp_path / "out", bundle, tile_px=64)
    write_pyramid(slide, scene()[::-1].copy(), subifds=False, compression="zlib", **MPP)
    with pytest.raises(StoreError, match="a finished run that differs.* slide was ") as caught:
        run_fake(slide, tmp_path / "out", bundle, tile_px=64)
    assert "--restart" in str(caught.value.hint)


def test_a_second_run_into_a_folder_is_refused(tmp_path: Path, slide: Path) -> None:
    model = fake_bundle(tmp_path / "fake.cellseg").path
    folder = tmp_path / "out" / "a"
    folder.mkdir(parents=True)
    with FolderLock(folder):
        result = CliRunner().invoke(
            app, ["infer", str(slide), "-o", str(tmp_path / "out"), "--model", str(model)]
        )
    assert result.exit_code == 1
    assert "error: " in result.stderr
    assert str(folder) in result.stderr
    assert "hint: " in result.stderr
