"""Pictures of cells as outputs of a run: heat map, density map, gallery, histogram."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import tifffile

from cellseg.errors import CellsegError
from cellseg.runtime.cells.files import CellFile
from cellseg.runtime.pictures.density import DensityMap
from cellseg.runtime.writers import density
from tests.fakes import CELL_RULE, fake_bundle, nuclei_picture, run_fake

PICTURES = ("heatmap", "gallery", "histogram")


def run(folder: Path, picture: np.ndarray, write: tuple[str, ...], cells: bool = True) -> Path:
    image = folder / "field.png"
    cv2.imwrite(str(image), picture)
    head = {"kind": "softmax", "instances": CELL_RULE if cells else None}
    bundle = fake_bundle(folder / "fake.cellseg", head=head, threshold=0.5)
    result, _ = run_fake(
        image, folder / "out", bundle.path, kind="IdentityEngine", mpp=0.5, tile_px=64, write=write
    )
    return Path(result.folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    return run(folder, nuclei_picture(300, 700), ("classes", "labels", "cells", *PICTURES))


def test_heatmap_makes_a_picture_and_a_map(made: Path) -> None:
    outputs = json.loads((made / "run.json").read_text(encoding="utf-8"))["outputs"]
    assert {"density.png", "density.ome.tif", "gallery.jpg", "histogram.svg"} <= outputs.keys()
    assert cv2.imread(str(made / "density.png")).shape[1] > 700


def test_the_density_map_lies_on_the_slide_and_counts_its_cells(made: Path) -> None:
    with tifffile.TiffFile(made / "density.ome.tif") as tif:
        assert tif.is_ome
        assert [level.shape for level in tif.series[0].levels] == [(300, 700), (150, 350)]
        assert 'PhysicalSizeX="0.5"' in str(tif.ome_metadata)
        found = tif.series[0].asarray()
    cells = CellFile(made / "cells.parquet").cell_count
    area_mm2 = 300 * 700 * 0.25e-6
    assert float(found.mean()) == pytest.approx(cells / area_mm2, rel=0.1)


@pytest.mark.parametrize("per_mm2", [0.3, 300_000])
def test_the_density_map_holds_hardly_any_cells_and_a_crowd_of_bacteria(
    tmp_path: Path, per_mm2: float
) -> None:
    even = DensityMap(np.full((60, 70), per_mm2, np.float32), "cells/mm²", 4.0, 1.0)
    view = SimpleNamespace(hw=(60, 70), mpp=(1.0, 1.0))
    with patch.object(density, "_density", return_value=even):
        density.write_density_map(
            tmp_path / "map.tif", SimpleNamespace(job=SimpleNamespace(view=view))
        )
    assert tifffile.imread(tmp_path / "map.tif") == pytest.approx(even.values, rel=1 / 2000)


def test_the_histogram_counts_every_cell(made: Path) -> None:
    text = (made / "histogram.svg").read_text(encoding="utf-8")
    bars = ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}title")
    counted = sum(int(str(bar.text).rpartition(": ")[2]) for bar in bars)
    beyond = int(text.split(" beyond")[0].rpartition("; ")[2]) if " beyond" in text else 0
    assert counted + beyond == CellFile(made / "cells.parquet").cell_count


def test_pictures_added_later_have_the_bytes_of_those_made_at_once(
    made: Path, tmp_path: Path
) -> None:
    picture = nuclei_picture(300, 700)
    run(tmp_path, picture, ("classes", "labels", "cells"))
    later = run(tmp_path, picture, ("classes", "labels", "cells", *PICTURES))
    for name in ("density.png", "density.ome.tif", "gallery.jpg", "histogram.svg"):
        assert (later / name).read_bytes() == (made / name).read_bytes()


def test_a_field_without_cells_has_valid_pictures(tmp_path: Path) -> None:
    folder = run(tmp_path, np.zeros((90, 120, 3), np.uint8), PICTURES)
    assert tifffile.imread(folder / "density.ome.tif").max() == 0
    assert cv2.imread(str(folder / "gallery.jpg")) is not None
    assert "no cells" in (folder / "histogram.svg").read_text(encoding="utf-8")


def test_pictures_of_cells_are_refused_of_a_model_without_cells(tmp_path: Path) -> None:
    with pytest.raises(CellsegError, match="is made of cells"):
        run(tmp_path, nuclei_picture(90, 120), ("classes", *PICTURES), cells=False)


@pytest.mark.parametrize("hw", [(1, 1), (5, 4), (3, 7)])
def test_halving_keeps_the_mean_of_each_block(hw: tuple[int, int]) -> None:
    values = np.random.default_rng(0).uniform(0, 60000, hw).astype(np.float32)
    half = density._mean_halved(values)
    assert half.shape == (-(-hw[0] // 2), -(-hw[1] // 2))
    if min(hw) > 1:
        assert half[0, 0] == pytest.approx(values[:2, :2].mean(), rel=1 / 2000)
