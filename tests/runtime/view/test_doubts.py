"""What speaks against a file is said by ``inspect`` and before a run, and changes no pixel."""

from __future__ import annotations

import struct
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.runtime.jobs.job import prepare
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.report.facts import warnings_of
from cellseg.runtime.report.folder import RunFolder
from cellseg.runtime.slides.orientation import ORIENTATION, exif_orientation
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.view.doubts import painted_doubt, slide_doubts
from cellseg.runtime.view.value_counts import count_samples
from tests.bundles import make_bundle
from tests.fakes import run_fake
from tests.slides import exif, grey, scene, whole, write_jpeg


def doubts_of(path: Path, mpp: float | None = None, *, needs_mpp: bool = True) -> list[str]:
    with closing(open_slide(path, mpp)) as slide:
        return slide_doubts(slide, needs_mpp=needs_mpp)


def jpeg(path: Path, block: bytes) -> Path:
    return write_jpeg(path, scene(), block)


def png(path: Path, block: bytes) -> Path:
    data = imagecodecs.png_encode(scene())
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    path.write_bytes(data[:33] + chunk + data[33:])
    return path


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("write", [jpeg, png])
def test_an_orientation_is_told_and_not_applied(tmp_path: Path, write: Any, order: str) -> None:
    slide = open_slide(write(tmp_path / "a", exif(6, order)))
    (doubt,) = slide_doubts(slide)
    assert "turned clockwise by 90 degrees (orientation tag 6)" in doubt
    assert whole(slide).shape == scene().shape


@pytest.mark.parametrize("block", [exif(1), exif(9), exif(6)[:15], b"", b"XX*\0" + exif(6)[4:]])
def test_upright_or_unreadable_orientations_are_no_doubt(tmp_path: Path, block: bytes) -> None:
    assert exif_orientation(jpeg(tmp_path / "a.jpg", block).read_bytes()) == 1
    assert ORIENTATION not in open_slide(tmp_path / "a.jpg").properties


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_the_orientation_of_a_tiff_is_told(tmp_path: Path, compression: str | None) -> None:
    path, tags = tmp_path / "a.tif", [(274, "H", 1, 3, True)]
    tifffile.imwrite(path, scene(), photometric="rgb", compression=compression, extratags=tags)
    (doubt,) = doubts_of(path)
    assert "turned by 180 degrees" in doubt
    with closing(open_slide(path)) as slide:
        assert np.array_equal(whole(slide), scene())


def test_oblong_pixels_are_told_where_the_pixel_size_matters(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"resolution": (20_000, 40_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, scene(), photometric="rgb", **options)
    (doubt,) = doubts_of(path)
    assert "mpp=0.5 x 0.25 (from TIFF resolution)" in doubt
    assert doubts_of(path, needs_mpp=False) == []
    assert doubts_of(path, 0.25) == []


def two_scenes(path: Path, side: int) -> Path:
    options: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64)}
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(scene(400, 400), metadata={"axes": "YXS", "Name": "left lung"}, **options)
        tif.write(scene(side, side), metadata={"axes": "YXS", "Name": "right lung"}, **options)
    return path


def test_an_image_that_is_not_read_is_named_unless_it_is_small(tmp_path: Path) -> None:
    (doubt,) = doubts_of(two_scenes(tmp_path / "a.ome.tif", 400))
    assert "Not read: right lung (400 x 400)" in doubt
    assert doubts_of(two_scenes(tmp_path / "b.ome.tif", 200)) == []


def test_inspect_and_a_run_say_it(tmp_path: Path) -> None:
    path = str(jpeg(tmp_path / "a.jpg", exif(8)))
    model = str(make_bundle(tmp_path / "tiny.cellseg").path)
    assert "orientation tag 8" in CliRunner().invoke(app, ["inspect", path]).output
    options = ["--model", model, "--engine", "onnxruntime", "--precision", "fp32"]
    options += ["-o", str(tmp_path), "--write", "overlay"]
    said = CliRunner().invoke(app, ["infer", path, *options])
    assert said.exit_code == 0
    assert "orientation tag 8" in said.stderr
    folder = RunFolder(tmp_path / "a")
    (doubt,) = folder.run["input"]["doubts"]
    assert "orientation tag 8" in doubt
    assert doubt in warnings_of(folder)


@pytest.mark.parametrize(
    ("scale", "empty"),
    [((0, 1, 1), "red:"), ((1, 0.2, 0.5), "green:"), ((1, 1, 0), "blue:")],
)
def test_stains_painted_in_colours_are_told(scale: tuple[float, ...], empty: str) -> None:
    slide = ArraySlide((grey()[..., None] * np.array(scale)).astype(np.uint8))
    assert f"next to nothing in its {empty}" in str(painted_doubt(slide, count_samples(slide)))


@pytest.mark.parametrize("image", [grey(), scene(), scene(dtype=np.uint16), scene() * 0])
def test_grey_images_and_transmitted_light_are_not_painted(image: Any) -> None:
    slide = ArraySlide(image)
    assert painted_doubt(slide, count_samples(slide)) is None


def test_a_run_warns_of_painted_stains_and_sees_a_single_one_as_grey(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = np.random.default_rng(1).integers(0, 256, grey().shape, np.uint8)
    slide = ArraySlide(np.stack([grey() * 0, grey(), other], axis=-1))
    cyan = ArraySlide(grey()[..., None] * np.array([0, 1, 1], np.uint8))
    normalize = {"kind": "slide-percentile", "low": 0.5, "high": 99.8}
    bundle = make_bundle(tmp_path / "tiny.cellseg", input={"normalize": normalize})
    prepare(slide, bundle, InferOptions(model=str(bundle.path)))
    assert "next to nothing in its red" in caplog.text
    job = prepare(cyan, bundle, InferOptions(model=str(bundle.path)))
    assert job.seen.channel == job.identity["channel"] == 1
    assert not job.doubts
    caplog.set_level("INFO")
    run_fake(cyan, tmp_path / "out", bundle.path)
    assert caplog.text.count("its green is seen as grey") == 1


@pytest.mark.parametrize(
    ("least", "most", "doubted"),
    [(242, 247, True), (0, 3, True), (240, 240, False), (9, 30, False)],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_run_warns_of_empty_glass_that_is_brought_to_full_contrast(
    tmp_path: Path, least: int, most: int, doubted: bool, dtype: type
) -> None:
    noise = np.random.default_rng(0).integers(least, most, (64, 64, 3), dtype, endpoint=True)
    normalize = {"kind": "slide-percentile", "low": 0.5, "high": 99.8}
    bundle = make_bundle(tmp_path / "tiny.cellseg", input={"normalize": normalize})
    job = prepare(ArraySlide(noise), bundle, InferOptions(model=str(bundle.path)))
    assert ["full contrast" in doubt for doubt in job.doubts] == [True] * doubted


def test_an_overview_is_run_as_it_is_and_told(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny.cellseg", mpp=0.5)
    for mpp, doubts in ((2.0, 0), (28.0, 1)):
        job = prepare(ArraySlide(scene(), mpp), bundle, InferOptions(model=str(bundle.path)))
        assert len(job.doubts) == doubts
    assert "56 times as large as the model's" in job.doubts[0]
    assert (job.view.hw, job.view.mpp) == (scene().shape[:2], (28.0, 28.0))
