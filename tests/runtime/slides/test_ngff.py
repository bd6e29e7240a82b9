"""OME-Zarr 0.4 and 0.5, written with the zarr package and read back as slides."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.errors import SlideError
from cellseg.runtime.inputs import expand_inputs
from cellseg.runtime.run.result_folder import result_folder
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.source_tiles import source_of
from cellseg.runtime.store.identity import slide_identity
from cellseg.runtime.view.doubts import slide_doubts
from tests.fakes import fake_bundle, nuclei_picture, run_fake
from tests.slides import grey, halved, scene, whole

VERSIONS = ["0.4", "0.5"]
UM = "micrometer"


@pytest.fixture(autouse=True)
def _zarr_extra(request: pytest.FixtureRequest) -> None:
    if "missing" not in request.node.name:
        pytest.importorskip("zarr", minversion="3", reason="the [zarr] extra is not installed")


def arranged(image: NDArray[Any], axes: str) -> NDArray[Any]:
    """Bring (y, x) or (y, x, c) into another order of axes; new ones have length 1."""
    image = image if image.ndim == 3 else image[..., None]
    order = ["yxc".index(axis) for axis in axes if axis in "yxc"]
    if "c" not in axes:
        image = image[..., 0]
        order = ["yx".index(axis) for axis in axes if axis in "yx"]
    index = tuple(slice(None) if axis in "yxc" else None for axis in axes)
    return np.ascontiguousarray(image.transpose(order)[index])


def write_store(
    path: Path,
    image: NDArray[Any],
    *,
    version: str = "0.5",
    axes: str = "tczyx",
    levels: int = 3,
    unit: str | None = UM,
    mpp: float = 0.25,
    chunk: int = 64,
    **options: Any,
) -> Path:
    import zarr

    root = zarr.create_group(str(path), zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(levels):
        data = arranged(halved(image, level), axes)
        chunks = tuple(chunk if axis in "yx" else 1 for axis in axes)
        root.create_array(str(level), data=data, chunks=chunks, **options)
        sizes = [mpp * 2**level if axis in "yx" else 1.0 for axis in axes]
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [{"type": "scale", "scale": sizes}],
            }
        )
    named = [{"name": axis} | ({"unit": unit} if unit and axis in "yx" else {}) for axis in axes]
    about: dict[str, Any] = {"multiscales": [{"axes": named, "datasets": datasets}]}
    if version == "0.4":
        about["multiscales"][0]["version"] = "0.4"
        root.attrs.update(about)
    else:
        root.attrs.update({"ome": {"version": version} | about})
    return path


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", ["tczyx", "czyx", "cyx", "yxc"])
def test_rgb_reads_as_it_was_written_at_every_level(
    tmp_path: Path, version: str, axes: str
) -> None:
    path = write_store(tmp_path / "a.ome.zarr", scene(), version=version, axes=axes)
    with closing(open_slide(path)) as slide:
        assert slide.kind == "slide"
        assert [level.downsample for level in slide.levels] == [1.0, 2.0, 4.0]
        for level in range(3):
            assert np.array_equal(whole(slide, level), halved(scene(), level))
        window = slide.read_region(0, (50, 60), (100, 130))
        assert np.array_equal(window, scene()[50:150, 60:190])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", ["yx", "tczyx"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
def test_grey_keeps_its_depth(tmp_path: Path, version: str, axes: str, dtype: Any) -> None:
    image = grey(dtype=np.dtype(dtype).newbyteorder("=").type).astype(dtype)
    path = write_store(tmp_path / "a.zarr", image, version=version, axes=axes)
    with closing(open_slide(path)) as slide:
        assert slide.dtype == np.dtype(dtype).newbyteorder("=")
        assert np.array_equal(whole(slide), np.dstack([image] * 3))


def test_shards_are_read_chunk_by_chunk(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zarr", grey(), axes="yx", shards=(128, 128))
    with closing(open_slide(path)) as slide:
        assert np.array_equal(whole(slide)[..., 0], grey())
        assert slide.properties["tile"] == "64x64"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("unit", "mpp", "expected"),
    [(UM, 0.25, 0.25), ("nanometer", 250, 0.25), ("millimeter", 5e-4, 0.5), ("µm", 0.25, 0.25),
     (None, 1, None), ("parsec", 1, None), (UM, 0, None)],
)  # fmt: skip
def test_units_become_microns(
    tmp_path: Path, version: str, unit: str | None, mpp: float, expected: float | None
) -> None:
    path = write_store(tmp_path / "a.zarr", grey(), axes="yx", version=version, unit=unit, mpp=mpp)
    with closing(open_slide(path)) as slide:
        assert slide.mpp == (None if expected is None else pytest.approx((expected, expected)))
    with closing(open_slide(path, mpp=0.3)) as slide:
        assert (slide.mpp, slide.properties["mpp from"]) == ((0.3, 0.3), "given")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_over_a_store_is_that_over_its_pixels(tmp_path: Path, version: str) -> None:
    image = nuclei_picture(211, 305)
    path = write_store(tmp_path / "a.ome.zarr", image, version=version)
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    result, _ = run_fake(path, tmp_path / "out", bundle, tile_px=64, tissue_mask=False)
    assert result.folder == tmp_path / "out" / "a" == result_folder(path, tmp_path / "out")
    from cellseg.runtime.slides.slide import ArraySlide

    plain, _ = run_fake(ArraySlide(image, 0.25), tmp_path / "b", bundle, tile_px=64)
    assert result.report["outputs"]["classes.ome.tif"] == plain.report["outputs"]["classes.ome.tif"]
    counts = result.report["input"]["source_tiles"]
    assert counts == {"touched": 4 * 5, "decoded": 4 * 5}


def test_of_several_pyramids_the_first_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    import zarr

    path = write_store(tmp_path / "a.zarr", scene())
    root = zarr.open_group(str(path))
    about = root.attrs["ome"]
    (first,) = about["multiscales"]
    second = first | {"name": "unmixed", "datasets": first["datasets"][1:]}
    root.attrs["ome"] = about | {"multiscales": [first, second]}
    with closing(open_slide(path)) as slide:
        assert np.array_equal(whole(slide), scene())
        (doubt,) = slide_doubts(slide)
    assert "only that of 407 x 301 px is read. Not read: unmixed." in doubt


@pytest.mark.parametrize("version", VERSIONS)
def test_levels_that_are_reduced_along_one_side_are_not_read(tmp_path: Path, version: str) -> None:
    import zarr

    image = grey(200, 300)
    path = write_store(tmp_path / "a.zarr", image, axes="yx", version=version)
    root = zarr.open_group(str(path))
    del root["1"]
    root.create_array("1", data=np.ascontiguousarray(image[:, ::2]), chunks=(64, 64))
    with closing(open_slide(path)) as slide:
        assert [(level.width_px, level.downsample) for level in slide.levels] == [(300, 1), (75, 4)]
        assert (slide.read_region(1, (0, 0), (50, 75))[..., 0] == halved(image, 2)).all()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_damaged_chunk_is_named_and_can_be_skipped(tmp_path: Path, version: str) -> None:
    path = write_store(tmp_path / "a.zarr", grey(), axes="yx", version=version)
    chunk = path / "0" / ("1.2" if version == "0.4" else "c/1/2")
    chunk.write_bytes(b"\0" * 30)
    with closing(open_slide(path)) as slide:
        with pytest.raises(SlideError, match=r"level 0: the tile at row 1, column 2 \(y=64, x=128"):
            whole(slide)
        source = source_of(slide)
        assert source is not None
        source.skips_damage = True
        assert (whole(slide)[64:128, 128:192] == 255).all()


def test_a_store_is_one_input_wherever_it_is_named(tmp_path: Path) -> None:
    path = write_store(tmp_path / "scans" / "a.ome.zarr", grey(), axes="yx")
    for text in (path, tmp_path / "scans", tmp_path / "scans" / "*.zarr"):
        assert expand_inputs([str(text)]) == [path]


@pytest.mark.parametrize("version", VERSIONS)
def test_identity_follows_chunks_and_metadata_not_the_name(tmp_path: Path, version: str) -> None:
    def identity(path: Path) -> str:
        with closing(open_slide(path)) as slide:
            return slide_identity(slide)

    path = write_store(tmp_path / "a.zarr", grey(), axes="yx", version=version)
    moved = path.rename(tmp_path / "b.zarr")
    first = identity(moved)
    (moved / "0" / ("1.2" if version == "0.4" else "c/1/2")).unlink()
    assert identity(moved) != first


@pytest.mark.parametrize("whole_bytes", [1 << 26, 1000])
def test_other_pixels_in_chunks_of_the_same_size_make_another_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr("cellseg.runtime.store.identity._WHOLE_BYTES", whole_bytes)
    paths = [
        write_store(tmp_path / f"{index}.zarr", image, axes="yx", compressors=None)
        for index, image in enumerate((grey(), grey()[:, ::-1], grey()))
    ]
    found = []
    for path in paths:
        with closing(open_slide(path)) as slide:
            found.append(slide_identity(slide))
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_inspect_tells_a_store(tmp_path: Path, version: str) -> None:
    path = write_store(tmp_path / "a.ome.zarr", scene(), version=version)
    result = CliRunner().invoke(app, ["inspect", str(path)])
    assert result.exit_code == 0, result.output
    for text in (f"OME-Zarr {version}", "407 x 301 px", "0.25 x 0.25 µm", "64x64", "tczyx"):
        assert text in result.output


# --- what is refused ---


def attributes_of(path: Path, version: str = "0.5") -> tuple[Path, dict[str, Any]]:
    file = path / ("zarr.json" if version == "0.5" else ".zattrs")
    return file, json.loads(file.read_text(encoding="utf-8"))


def refused(path: Path) -> SlideError:
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    return caught.value


def test_a_group_without_an_image_names_the_groups_inside(tmp_path: Path) -> None:
    import zarr

    root = zarr.create_group(str(tmp_path / "a.zarr"))
    write_store(tmp_path / "a.zarr" / "0", grey(), axes="yx")
    error = refused(tmp_path / "a.zarr")
    assert "without 'multiscales'" in str(error)
    assert f"{tmp_path / 'a.zarr'}/0" in str(error.hint)
    root.create_group("OME")  # of bioformats2raw, beside the images
    assert "/OME" not in str(refused(tmp_path / "a.zarr").hint)


def test_labels_alone_are_refused(tmp_path: Path) -> None:
    import zarr

    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2)
    group.attrs["labels"] = ["cells"]
    assert "label images only: cells" in str(refused(tmp_path / "a.zarr"))


def test_a_label_image_is_refused_as_what_it_is(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zarr", grey(), axes="yx")
    file, attributes = attributes_of(path)
    attributes["attributes"]["ome"]["image-label"] = {}
    file.write_text(json.dumps(attributes), encoding="utf-8")
    error = refused(path)
    assert "a label image, not a picture" in str(error)
    assert "labels/<name>" in str(error.hint)


def test_a_plate_is_refused_with_what_to_give(tmp_path: Path) -> None:
    import zarr

    group = zarr.create_group(str(tmp_path / "a.zarr"))
    group.attrs["ome"] = {"version": "0.5", "plate": {}}
    assert "A/1/0" in str(refused(tmp_path / "a.zarr").hint)


def test_a_bare_array_is_refused_with_what_to_give(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zarr", grey(), axes="yx")
    assert "the folder above it" in str(refused(path / "0").hint)


@pytest.mark.parametrize(
    ("image", "axes", "message"),
    [
        (np.zeros((70, 70, 5), np.uint8), "cyx", "channels=5"),
        (np.zeros((70, 70), np.float32), "yx", "dtype=float32"),
    ],
)
def test_what_is_no_grey_or_rgb_image_is_refused(
    tmp_path: Path, image: Any, axes: str, message: str
) -> None:
    assert message in str(refused(write_store(tmp_path / "a.zarr", image, axes=axes, levels=1)))


def test_a_stack_is_refused(tmp_path: Path) -> None:
    import zarr

    path = write_store(tmp_path / "a.zarr", grey(), axes="zyx", levels=1)
    zarr.create_array(str(path / "0"), shape=(4, 70, 70), dtype="u1", overwrite=True)
    assert "z=4" in str(refused(path))


@pytest.mark.parametrize("version", VERSIONS)
def test_absurd_sizes_are_refused_before_anything_is_allocated(
    tmp_path: Path, version: str
) -> None:
    path = write_store(tmp_path / "a.zarr", grey(), axes="yx", version=version, levels=1)
    file = path / "0" / ("zarr.json" if version == "0.5" else ".zarray")
    about = json.loads(file.read_text(encoding="utf-8"))
    about["shape"] = [10**9, 10**9]
    file.write_text(json.dumps(about), encoding="utf-8")
    assert "width=1000000000" in str(refused(path))


def test_a_huge_chunk_is_refused(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zarr", grey(), axes="yx", version="0.4", levels=1)
    file = path / "0" / ".zarray"
    about = json.loads(file.read_text(encoding="utf-8"))
    about["chunks"] = [2**16, 2**16]
    file.write_text(json.dumps(about), encoding="utf-8")
    assert "at most 512 MB" in str(refused(path))


@pytest.mark.parametrize("axes", [["y"], ["c", "y", "x", "x"], ["y", "x", "q"]])
def test_axes_that_are_no_image_are_refused(tmp_path: Path, axes: list[str]) -> None:
    path = write_store(tmp_path / "a.zarr", grey(), axes="yx")
    file, attributes = attributes_of(path)
    multiscales = attributes["attributes"]["ome"]["multiscales"][0]
    multiscales["axes"] = [{"name": axis} for axis in axes]
    file.write_text(json.dumps(attributes), encoding="utf-8")
    assert "not those of OME-Zarr 0.4 or 0.5" in str(refused(path))


def test_a_level_that_is_not_there_is_named(tmp_path: Path) -> None:
    import shutil

    path = write_store(tmp_path / "a.zarr", grey(), axes="yx")
    shutil.rmtree(path / "1")
    assert "level '1'" in str(refused(path))


def test_metadata_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zarr", grey(), axes="yx")
    (path / "zarr.json").write_text("{", encoding="utf-8")
    assert "cannot be opened as zarr" in str(refused(path))


def test_missing_extra_is_said_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    (tmp_path / "a.zarr").mkdir()
    error = refused(tmp_path / "a.zarr")
    assert "needs the zarr package" in str(error)
    assert error.hint == "pip install 'cellseg[zarr]'"


@pytest.mark.parametrize("version", VERSIONS)
def test_stains_are_refused_by_their_names_and_rgb_colours_are_not(
    tmp_path: Path, version: str
) -> None:
    import zarr

    path = write_store(tmp_path / "a.zarr", scene(), version=version, axes="cyx", levels=1)
    root = zarr.open_group(str(path), mode="r+")
    names, colours = ("Cy5", "GFP", "DAPI"), ("FF0000", "00FF00", "0000FF")
    for painted in (colours, colours[::-1]):
        channels = [
            {"label": name, "color": colour} for name, colour in zip(names, painted, strict=True)
        ]
        about: dict[str, Any] = {"omero": {"channels": channels}}
        if version == "0.4":
            root.attrs.update(about)
        else:
            root.attrs.update({"ome": {**root.attrs["ome"], **about}})
        if painted == colours:
            assert np.array_equal(whole(open_slide(path)), scene())
        else:
            assert "channels=3 (1 Cy5, 2 GFP, 3 DAPI)" in str(refused(path))
