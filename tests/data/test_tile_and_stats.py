"""Tiles cover every object once at least; statistics are those of the pixels."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.data.annotations.import_data import import_data
from cellseg.data.form.grid import tile_origins
from cellseg.data.stats.contents import measure_data
from cellseg.data.stats.report import findings, write_stats
from cellseg.data.tile import TileOptions, tile_data
from cellseg.errors import DataError
from tests.data.made import load, save, scene, write_source


@given(st.integers(1, 900), st.integers(2, 300), st.data())
def test_tiles_cover_an_axis_and_stay_inside(extent: int, tile: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, tile))
    origins = tile_origins(extent, tile, step)
    covered = np.zeros(extent, bool)
    for origin in origins:
        covered[origin : origin + tile] = True
        assert 0 <= origin
        assert origin + tile <= extent or origin == 0
    assert covered.all()
    assert origins == sorted(set(origins))


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """One image of 200 x 150 px with discs in its left half."""
    image, labels = scene(3, 150, 8)
    wide = np.pad(labels, ((0, 0), (0, 50)))
    save(
        tmp_path / "large" / "train" / "images" / "a.png", np.pad(image, ((0, 0), (0, 50), (0, 0)))
    )
    save(tmp_path / "large" / "train" / "labels" / "a.png", wide)
    save(tmp_path / "large" / "train" / "masks" / "a.png", (wide > 0).astype(np.uint8) * 255)
    return tmp_path / "large"


def test_tiles_hold_the_images_own_pixels(large: Path, tmp_path: Path) -> None:
    report = tile_data(large, tmp_path / "out", TileOptions(tile_px=64, keep_empty=1.0))
    assert (report.tiles, report.skipped) == (12, 0)
    whole = load(large / "train" / "images" / "a.png")
    part = load(tmp_path / "out" / "train" / "images" / "a_x136_y86.png")
    assert (part == whole[86:150, 136:200]).all()


def test_tiles_without_foreground_are_skipped(large: Path, tmp_path: Path) -> None:
    report = tile_data(large, tmp_path / "out", TileOptions(tile_px=50))
    assert report.skipped >= 3  # the last column shows nothing
    masks = [load(path) for path in (tmp_path / "out" / "train" / "masks").iterdir()]
    assert all(mask.any() for mask in masks)


def test_a_reduced_whole_keeps_classes_and_ids(large: Path, tmp_path: Path) -> None:
    tile_data(large, tmp_path / "out", TileOptions(tile_px=100, reduced=True))
    labels = load(tmp_path / "out" / "train" / "labels" / "a_whole.png")
    assert labels.shape == (75, 100)
    assert labels.max() == load(large / "train" / "labels" / "a.png").max()


def test_a_reduced_label_stays_where_its_image_is(tmp_path: Path) -> None:
    labels = np.zeros((400, 400), np.uint8)
    labels[120:280, 80:160] = 1  # edges on the edges of blocks of 8 px
    save(tmp_path / "in" / "train" / "images" / "a.png", np.dstack([labels * 200] * 3))
    for kind, value in (("labels", 1), ("masks", 255)):
        save(tmp_path / "in" / "train" / kind / "a.png", np.roll(labels * value, 3, (0, 1)))
    tile_data(tmp_path / "in", tmp_path / "out", TileOptions(tile_px=50, reduced=True))
    found = load(tmp_path / "out" / "train" / "labels" / "a_whole.png")
    # Three pixels are less than half of eight: what covers the middle of a block has it.
    assert (found == labels[::8, ::8]).all()


def test_a_tile_set_of_nothing_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "in" / "images" / "a.png", scene()[0])
    save(tmp_path / "in" / "masks" / "a.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(DataError, match="none of 4 tiles"):
        tile_data(tmp_path / "in", tmp_path / "out", TileOptions(tile_px=32))
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="overlap=32"):
        tile_data(tmp_path / "in", tmp_path / "out", TileOptions(tile_px=32, overlap_px=32))


def test_statistics_are_those_of_the_pixels(tmp_path: Path) -> None:
    from skimage.measure import regionprops

    write_source(tmp_path / "in", mask="index")
    import_data(tmp_path / "in", tmp_path / "set")
    stats = measure_data(tmp_path / "set")
    labels = [scene(index)[1] for index in range(3)]
    assert sum(item.objects for item in stats.images) == sum(int(m.max()) for m in labels)
    expected = [p.equivalent_diameter_area for m in labels for p in regionprops(m.astype(int))]
    np.testing.assert_allclose(np.sort(stats.diameters_px), np.sort(expected))
    inside = sum(int((m > 0).sum()) for m in labels)
    assert stats.class_pixels["background"] == 3 * 64 * 64 - inside
    weights = stats.class_weights()
    assert weights["background"] == pytest.approx(3 * 64 * 64 / (3 * 64 * 64 - inside), abs=0.01)
    assert any("larger than the 3 px" in text for text in findings(stats, 3))


def test_stain_densities_are_those_of_scikit_image(tmp_path: Path) -> None:
    from skimage.color import rgb2hed

    rng = np.random.default_rng(0)
    image = rng.integers(90, 240, (32, 32, 3), dtype=np.uint8)
    save(tmp_path / "in" / "images" / "a.png", image)
    save(tmp_path / "in" / "masks" / "a.png", np.full((32, 32), 255, np.uint8))
    found = measure_data(tmp_path / "in").images[0]
    # Its logarithm is in units of -log(1e-6) and it clips each pixel at 0; ours clips the same way.
    expected = rgb2hed(image[::2, ::2]).reshape(-1, 3).mean(0) * -np.log10(1e-6)
    assert found.haematoxylin_od > 0
    assert np.isfinite(expected).all()
    assert found.haematoxylin_od / found.eosin_od == pytest.approx(
        expected[0] / expected[1], rel=0.1
    )


def test_a_picture_and_a_table_are_written(tmp_path: Path) -> None:
    write_source(tmp_path / "in")
    write_stats(measure_data(tmp_path / "in"), tmp_path / "report", field_px=40)
    rows = list(csv.DictReader((tmp_path / "report" / "stats.csv").read_text().splitlines()))
    assert [row["stem"] for row in rows] == ["0", "1", "2"]
    picture = cv2.imread(str(tmp_path / "report" / "stats.png"))
    assert picture.shape == (520, 1260, 3)
    assert picture.std() > 10


def test_the_commands_print_what_they_found(tmp_path: Path) -> None:
    write_source(tmp_path / "in")
    run = CliRunner().invoke
    counted = run(app, ["data", "stats", str(tmp_path / "in"), "--model", "nuclei"])
    assert counted.exit_code == 0, counted.output
    assert "images      3 not split" in counted.stdout
    cut = run(
        app, ["data", "tile", str(tmp_path / "in"), "-o", str(tmp_path / "t"), "--tile", "32"]
    )
    assert cut.exit_code == 0, cut.output
    assert "of 3 images" in cut.stdout


@pytest.mark.parametrize("kind", ["masks", "labels"])
def test_what_does_not_lie_on_its_image_is_refused(large: Path, tmp_path: Path, kind: str) -> None:
    path = large / "train" / kind / "a.png"
    save(path, load(path)[:-1])
    for use in (lambda: measure_data(large), lambda: tile_data(large, tmp_path / "out")):
        with pytest.raises(DataError, match=rf"200 x 150 px. Received: .*{kind}.*200 x 149"):
            use()
