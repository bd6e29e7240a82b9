"""Made slides: the same bytes for the same seed, and a truth that fits the pixels."""

from __future__ import annotations

import csv
import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cellseg.bench.slides.make_slide import MadeSlide, make_slide
from cellseg.bench.slides.patches import CELL_PX, PatchLibrary, hash_of
from cellseg.bench.slides.tissue_field import TissueField
from cellseg.errors import DataError
from cellseg.runtime.slides.readers import open_slide
from tests.slides import whole

SIZE_WH = (1100, 800)
PINK, PURPLE = (220, 170, 200), (90, 40, 130)


def save(path: Path, image: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pink images with purple discs, and one dark one, with masks and labels."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(3):
        labels = np.zeros((270, 300 + 10 * number), np.uint16)
        for index in range(12):
            place = (20 + 47 * (index % 6), 40 + 130 * (index // 6) + 5 * number)
            cv2.circle(labels, place, 10 + number, index + 1, -1)
        image = np.where(labels[..., None] > 0, PURPLE, PINK).astype(np.uint8)
        save(folder / "images" / f"{number}.png", image if number < 2 else image // 4)
        save(folder / "masks" / f"{number}.png", np.where(labels > 0, 255, 0).astype(np.uint8))
        save(folder / "labels" / f"{number}.png", labels)
    save(folder / "images" / "small.png", np.zeros((100, 100, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def made(images: Path, tmp_path_factory: pytest.TempPathFactory) -> MadeSlide:
    out = tmp_path_factory.mktemp("made") / "s.tif"
    return make_slide(out, SIZE_WH, 0.4, 7, images, tile=256)


def table_of(made: MadeSlide) -> list[dict[str, float]]:
    with made.instances.open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def digest(made: MadeSlide) -> list[str]:
    files = (made.slide, made.classes, made.instances)
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_same_seed_gives_the_same_bytes_for_any_number_of_threads(
    made: MadeSlide, images: Path, tmp_path: Path
) -> None:
    again = make_slide(tmp_path / "t.tif", SIZE_WH, 0.4, 7, images, tile=256, threads=5)
    assert digest(again) == digest(made)


def test_other_seed_gives_another_slide(made: MadeSlide, images: Path, tmp_path: Path) -> None:
    other = make_slide(tmp_path / "t.tif", SIZE_WH, 0.4, 8, images, tile=256)
    assert not set(digest(other)) & set(digest(made))


def test_slide_is_a_pyramid_that_says_its_pixel_size(made: MadeSlide) -> None:
    with closing(open_slide(made.slide)) as slide:
        sizes = [(lv.width_px, lv.height_px) for lv in slide.levels]
        assert sizes == [(1100, 800), (550, 400), (275, 200), (138, 100)]
        assert slide.mpp == pytest.approx((0.5, 0.5))
        assert slide.kind == "slide"


def test_levels_are_the_same_picture(made: MadeSlide) -> None:
    with closing(open_slide(made.slide)) as slide:
        full = whole(slide).astype(float)
        for level in (1, 2):
            step = 2**level
            blocks = full.reshape(800 // step, step, 1100 // step, step, 3).mean((1, 3))
            assert np.abs(whole(slide, level) - blocks).mean() < 4


def test_openslide_reads_every_level(made: MadeSlide) -> None:
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(made.slide) as oracle, closing(open_slide(made.slide)) as slide:
        assert oracle.level_dimensions == tuple((v.width_px, v.height_px) for v in slide.levels)
        for level, size_wh in enumerate(oracle.level_dimensions):
            seen = np.asarray(oracle.read_region((0, 0), level, size_wh).convert("RGB"))
            assert np.abs(whole(slide, level).astype(int) - seen).max() <= 1


def test_truth_fits_the_pixels(made: MadeSlide) -> None:
    """A pixel is nearer to purple than to pink or glass exactly where the class map says so."""
    truth = tifffile.imread(made.classes)
    with closing(open_slide(made.slide)) as slide:
        pixels = whole(slide).astype(int)
    is_purple = np.abs(pixels - PURPLE).sum(2) < np.abs(pixels - PINK).sum(2)
    assert truth.shape == (800, 1100)
    assert truth.dtype == np.uint8
    assert (is_purple & (truth == 1)).sum() / (is_purple | (truth == 1)).sum() > 0.95


def test_truth_is_the_masks_content_where_there_is_tissue(made: MadeSlide, images: Path) -> None:
    truth = tifffile.imread(made.classes)
    library, field = PatchLibrary(images), TissueField(SIZE_WH, 0.4, 7)
    for row, col in np.ndindex(4, 5):
        y, x = row * CELL_PX, col * CELL_PX
        part = truth[y : y + CELL_PX, x : x + CELL_PX]
        expected = np.where(field.window(y, x, CELL_PX), library.cell(7, row, col).classes, 0)
        assert np.array_equal(part, expected[: part.shape[0], : part.shape[1]])


def test_table_accounts_for_every_pixel_of_the_truth(made: MadeSlide) -> None:
    truth, rows = tifffile.imread(made.classes), table_of(made)
    assert len(rows) == made.objects > 50
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
    assert sum(row["area_px"] for row in rows) == np.count_nonzero(truth)
    for row in rows:
        x0, y0, x1, y1 = (int(row[key]) for key in ("x0_px", "y0_px", "x1_px", "y1_px"))
        box = truth[y0:y1, x0:x1] == row["class"]
        assert row["area_px"] <= box.sum()
        assert box.any(0).all()
        assert box.any(1).all()
        assert x0 <= row["centroid_x_px"] <= x1 - 1
        assert y0 <= row["centroid_y_px"] <= y1 - 1


def test_whole_discs_in_the_table_are_the_connected_pieces(made: MadeSlide) -> None:
    """OpenCV's components are the second opinion; discs that meet at a border are left out."""
    truth = tifffile.imread(made.classes)
    count, _, stats, centroids = cv2.connectedComponentsWithStats(truth, connectivity=8)
    ours = {tuple(row[key] for key in ("x0_px", "y0_px", "area_px")): row for row in table_of(made)}
    matched = 0
    for piece in range(1, count):
        row = ours.get((stats[piece, 0], stats[piece, 1], stats[piece, 4]))
        if row is not None:
            matched += 1
            centre = (row["centroid_x_px"], row["centroid_y_px"])
            assert centre == pytest.approx(centroids[piece], abs=1e-3)
    assert matched > 0.5 * count


@pytest.mark.parametrize("tissue", [0.0, 0.1, 0.5, 1.0])
def test_tissue_covers_the_fraction_asked_for(images: Path, tmp_path: Path, tissue: float) -> None:
    made = make_slide(tmp_path / "t.tif", (1000, 1200), tissue, 1, images, tile=256)
    assert made.tissue == pytest.approx(tissue, abs=0.02 if 0 < tissue < 1 else 0)
    assert (made.objects == 0) == (tissue == 0)


def test_window_of_the_field_is_the_crop_of_a_larger_one() -> None:
    field = TissueField((3000, 2000), 0.5, 3)
    large = np.broadcast_to(field.window(0, 0, 2048), (2048, 2048))
    for y, x in [(0, 0), (256, 512), (1536, 1792)]:
        part = np.broadcast_to(field.window(y, x, 256), (256, 256))
        assert np.array_equal(part, large[y : y + 256, x : x + 256])


def test_hash_is_the_same_everywhere() -> None:
    assert hash_of(0) == 0xE220A8397B1DCDAF  # first output of SplitMix64 seeded with 0
    assert len({hash_of(1, row, col) for row in range(50) for col in range(50)}) == 2500


@pytest.mark.parametrize(
    ("kind", "chosen", "count"),
    [("auto", "stained", 2), ("fluorescence", "fluorescence", 1), ("all", "all", 3)],
)
def test_kind_chooses_the_images(images: Path, kind: Any, chosen: str, count: int) -> None:
    library = PatchLibrary(images, kind)
    assert (library.kind, len(library.images)) == (chosen, count)


def test_kind_that_is_not_there_is_refused(images: Path) -> None:
    with pytest.raises(DataError, match="kind='brightfield'") as caught:
        PatchLibrary(images, "brightfield")
    assert "fluorescence, stained" in str(caught.value.hint)


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        PatchLibrary(tmp_path)


def test_image_without_mask_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", np.full((256, 256, 3), 200, np.uint8))
    with pytest.raises(DataError, match=r"a\.png: missing"):
        PatchLibrary(tmp_path)


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", np.full((256, 256, 3), 200, np.uint8))
    save(tmp_path / "masks" / "a.png", np.zeros((256, 255), np.uint8))
    with pytest.raises(DataError, match=r"mask=\(256, 255\)"):
        PatchLibrary(tmp_path)


def test_masks_without_labels_give_connected_instances(tmp_path: Path) -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[10:20, 10:20] = mask[50:60, 50:60] = 255
    save(tmp_path / "images" / "a.png", np.full((256, 256, 3), 200, np.uint8))
    save(tmp_path / "masks" / "a.png", mask)
    assert PatchLibrary(tmp_path).images[0].labels.max() == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [({"size_wh": (0, 9)}, "size must be positive"), ({"tissue": 1.5}, "tissue fraction"),
     ({"tile": 300}, "multiple of 256"), ({"mpp": 0}, "microns"), ({"quality": 0}, "quality"),
     ({"out": "a.png"}, "must end in .tif")],
)  # fmt: skip
def test_impossible_order_is_refused(
    images: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    order: dict[str, Any] = {"out": "a.tif", "size_wh": (300, 300), "tissue": 0.3, "seed": 0}
    order |= {"images_dir": images} | change
    order["out"] = tmp_path / order["out"]
    with pytest.raises(DataError, match=named):
        make_slide(**order)
    assert not list(tmp_path.iterdir())


def test_failure_leaves_nothing_behind(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_slide(tmp_path / "a.tif", SIZE_WH, 0.4, 7, images, tile=256, progress=stop)
    assert not list(tmp_path.iterdir())


def test_real_images_make_a_stained_slide(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dsb2018_nuclei" / "test"
    made = make_slide(tmp_path / "a.tif", (1024, 768), 0.5, 0, folder)
    assert made.kind == "stained"
    assert made.objects > 100
    assert np.count_nonzero(tifffile.imread(made.classes)) == sum(
        row["area_px"] for row in table_of(made)
    )
