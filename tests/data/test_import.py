"""Every form of annotation comes out as the same pixels; what cannot be is refused, cleanly."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.data.annotations.import_data import ImportOptions, import_data
from cellseg.data.annotations.mask_files import MaskOptions
from cellseg.data.annotations.qupath import QuPathOptions
from cellseg.data.form.dataset import open_dataset
from cellseg.errors import DataError
from tests.data.made import classes_of, load, save, scene, write_source
from tests.slides import exif, write_jpeg


def rows_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "manifest.csv").read_text().splitlines()))


def options(**masks: object) -> ImportOptions:
    return ImportOptions(masks=MaskOptions(**masks))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["binary", "index", "palette", "cutout", "instances"])
def test_a_form_is_recognized_and_its_foreground_kept(form: str, tmp_path: Path) -> None:
    write_source(tmp_path / "in", mask=form)
    if form == "instances":
        write_source(tmp_path / "in", mask=form)
        for index in range(3):  # enough objects to tell them from classes
            image, labels = scene(index, 128, 14)
            save(tmp_path / "in" / "images" / f"{index}.png", image)
            save(tmp_path / "in" / "masks" / f"{index}.png", labels)
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert report.form == form
    for index in range(3):
        _, labels = scene(index, 128, 14) if form == "instances" else scene(index)
        mask = load(tmp_path / "out" / "masks" / f"{index}.png")
        assert ((mask > 0) == (labels > 0)).all()
        assert load(tmp_path / "out" / "labels" / f"{index}.png").max() == labels.max()
        if form in ("index", "palette"):
            expected = classes_of(labels)  # palette: in order of the colours' values
            assert (
                mask == (np.array([0, 2, 1])[expected] if form == "palette" else expected)
            ).all()


def test_images_keep_their_bytes(tmp_path: Path) -> None:
    write_source(tmp_path / "in")
    import_data(tmp_path / "in", tmp_path / "out")
    one, two = (folder / "images" / "0.png" for folder in (tmp_path / "in", tmp_path / "out"))
    assert one.read_bytes() == two.read_bytes()


def test_a_jpeg_mask_is_thresholded_and_said(tmp_path: Path) -> None:
    write_source(tmp_path / "in", suffix=".jpg")
    report = import_data(tmp_path / "in", tmp_path / "out")
    _, labels = scene(0)
    mask = load(tmp_path / "out" / "masks" / "0.png")
    assert set(np.unique(mask)) == {0, 255}
    assert np.count_nonzero((mask > 0) != (labels > 0)) < 0.02 * labels.size
    assert any("thresholded at 127" in text for text in report.changes)


def test_pixels_off_the_palette_are_counted_and_given_to_their_neighbour(tmp_path: Path) -> None:
    write_source(tmp_path / "in", mask="palette")
    path = tmp_path / "in" / "masks" / "0.png"
    mask = load(path).copy()
    mask[0, :3] = (90, 90, 90)
    mask[1, 0] = (3, 2, 1)
    save(path, mask)
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert report.changes["3 px off the palette, given to the nearest class"] == 1
    assert report.changes["1 px near a palette colour, taken for it"] == 1
    assert not load(tmp_path / "out" / "masks" / "0.png")[:2, :3].any()


def test_named_colours_order_the_classes(tmp_path: Path) -> None:
    write_source(tmp_path / "in", mask="palette")
    named = options(palette="neutrophil=#fabebe,lymphocyte=#008080")
    import_data(tmp_path / "in", tmp_path / "out", named)
    assert (load(tmp_path / "out" / "masks" / "1.png") == classes_of(scene(1)[1])).all()
    entries = json.loads((tmp_path / "out" / "classes.json").read_text())["classes"]
    assert [entry["name"] for entry in entries] == ["background", "neutrophil", "lymphocyte"]
    assert entries[1]["color"] == [250, 190, 190]


def test_two_palettes_are_refused(tmp_path: Path) -> None:
    write_source(tmp_path / "in", mask="palette")
    other = np.array([(0, 0, 0), (255, 0, 0), (255, 255, 0)], np.uint8)
    save(tmp_path / "in" / "masks" / "2.png", other[classes_of(scene(2)[1])])
    with pytest.raises(DataError, match="share one palette"):
        import_data(tmp_path / "in", tmp_path / "out")
    named = options(palette="a=#fabebe,b=#008080")
    with pytest.raises(DataError, match="a second palette"):
        import_data(tmp_path / "in", tmp_path / "out", named)
    assert not (tmp_path / "out").exists()


def test_a_palette_on_another_ground_is_refused(tmp_path: Path) -> None:
    write_source(tmp_path / "in", mask="palette")
    white = np.array([(255, 255, 255), (250, 190, 190), (0, 128, 128)], np.uint8)
    save(tmp_path / "in" / "masks" / "2.png", white[classes_of(scene(2)[1])])
    with pytest.raises(DataError, match="background colour"):
        import_data(tmp_path / "in", tmp_path / "out")


def test_colours_beside_grey_values_are_refused(tmp_path: Path) -> None:
    write_source(tmp_path / "in", mask="palette")
    save(tmp_path / "in" / "masks" / "2.png", classes_of(scene(2)[1]))
    with pytest.raises(DataError, match="of one form"):
        import_data(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("part", ["images", "masks"])
def test_what_has_no_partner_is_named(part: str, tmp_path: Path) -> None:
    write_source(tmp_path / "in")
    (tmp_path / "in" / part / "1.png").unlink()
    with pytest.raises(DataError, match=r"without an? (image|mask) \(1\)"):
        import_data(tmp_path / "in", tmp_path / "out")


def test_points_are_not_taken_for_masks_that_were_forgotten(tmp_path: Path) -> None:
    save(tmp_path / "in" / "train" / "images" / "a.png", scene(0)[0])
    points = tmp_path / "in" / "train" / "points" / "a.csv"
    points.parent.mkdir()
    points.write_text("x,y\n30,30\n")
    with pytest.raises(DataError) as by_import:
        import_data(tmp_path / "in", tmp_path / "out")
    with pytest.raises(DataError) as by_reading:
        open_dataset(tmp_path / "in")
    for error in (by_import.value, by_reading.value):
        assert "data synthesize" in str(error.hint)


def test_a_mask_of_another_size_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    write_source(tmp_path / "in")
    save(tmp_path / "in" / "masks" / "2.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match=r"64 x 64 px.*2\.png with 9 x 9"):
        import_data(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_used_folder_is_left_alone(tmp_path: Path) -> None:
    write_source(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="new or empty folder"):
        import_data(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_splits_and_mask_suffixes_are_understood(tmp_path: Path) -> None:
    for split in ("training", "val", "Test"):
        image, labels = scene()
        save(tmp_path / "in" / split / "original" / "Early" / "a.png", image)
        mask = (labels > 0).astype(np.uint8) * 255
        save(tmp_path / "in" / split / "segmented" / "Early" / "a_mask.png", mask)
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert report.images == {"train": 1, "valid": 1, "test": 1}
    assert (tmp_path / "out" / "valid" / "masks" / "a.png").is_file()


def test_stems_that_come_twice_take_their_folders_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_source(tmp_path / "in" / folder, count=1)
    import_data(tmp_path / "in", tmp_path / "out")
    assert {row["stem"] for row in rows_of(tmp_path / "out")} == {"a_0", "b_0"}


def test_folders_of_one_split_do_not_hide_each_others_images(tmp_path: Path) -> None:
    for folder in ("train1", "train2"):
        write_source(tmp_path / "in" / folder, count=1)
    import_data(tmp_path / "in", tmp_path / "out")
    assert {row["stem"] for row in rows_of(tmp_path / "out")} == {"0", "0_2"}


def test_two_annotations_of_one_image_are_refused(tmp_path: Path) -> None:
    root = coco(tmp_path / "in", [[10, 20, 14, 20, 14, 23, 10, 23]])
    (root / "more.json").write_text((root / "instances.json").read_text())
    with pytest.raises(DataError, match="Each image comes once"):
        import_data(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_macos_hides_beside_an_annotation_is_passed_by(tmp_path: Path) -> None:
    root = coco(tmp_path / "in", [[10, 20, 14, 20, 14, 23, 10, 23]])
    (root / "._instances.json").write_bytes(b"\x00\x05\x16\x07")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "x.json").write_bytes(b"\xff")
    assert import_data(root, tmp_path / "out").objects == 1


def test_masks_of_0_and_1_may_lie_beside_others(tmp_path: Path) -> None:
    write_source(tmp_path / "in", count=2)
    path = tmp_path / "in" / "masks" / "1.png"
    expected = load(path) > 0
    save(path, expected.astype(np.uint8))
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert report.form == "binary"
    assert ((load(tmp_path / "out" / "masks" / "1.png") > 0) == expected).all()


@pytest.mark.parametrize(
    "whites", [(65535, 65535), (4095, 4095), (256, 256), (255, 65535), (1, 65535)]
)
def test_binary_masks_of_16_bit_are_no_single_objects(
    whites: tuple[int, int], tmp_path: Path
) -> None:
    write_source(tmp_path / "in", count=2)
    for index, white in enumerate(whites):
        path = tmp_path / "in" / "masks" / f"{index}.png"
        save(path, (load(path) > 0).astype(np.uint8 if white < 256 else np.uint16) * white)
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert (report.form, report.objects) == ("binary", 8)


def test_an_image_of_one_object_lies_beside_others_of_many(tmp_path: Path) -> None:
    write_source(tmp_path / "in", count=3, mask="instances")
    path = tmp_path / "in" / "masks" / "0.png"
    save(path, np.where(load(path) == 1, 700, 0).astype(np.uint16))
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert (report.form, report.objects) == ("instances", 9)


def test_classes_may_have_values_of_16_bit(tmp_path: Path) -> None:
    write_source(tmp_path / "in", mask="index")
    for path in (tmp_path / "in" / "masks").iterdir():
        save(path, np.array([0, 100, 300], np.uint16)[load(path)])
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert (report.form, len(report.classes)) == ("index", 2)
    assert "values [100, 300] became 1..2" in report.notes
    assert (load(tmp_path / "out" / "masks" / "1.png") == classes_of(scene(1)[1])).all()


def test_a_mask_file_for_each_nucleus_becomes_instances(tmp_path: Path) -> None:
    image, labels = scene(1)
    save(tmp_path / "in" / "abc" / "images" / "abc.png", image)
    for label in range(1, 5):
        save(
            tmp_path / "in" / "abc" / "masks" / f"m{label}.png", (labels == label).astype(np.uint8)
        )
    report = import_data(tmp_path / "in", tmp_path / "out", options(class_names=("nucleus",)))
    assert (report.form, report.objects) == ("folders", 4)
    assert (load(tmp_path / "out" / "labels" / "abc.png") == labels).all()


def coco(root: Path, segmentation: object) -> Path:
    save(root / "images" / "a.png", scene()[0])
    tree = {
        "images": [{"id": 7, "file_name": "a.png", "width": 64, "height": 64}],
        "categories": [{"id": 3, "name": "cell"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "segmentation": segmentation}],
    }
    (root / "instances.json").write_text(json.dumps(tree))
    return root


def test_a_coco_polygon_fills_the_pixels_whose_centres_it_holds(tmp_path: Path) -> None:
    report = import_data(
        coco(tmp_path / "in", [[10, 20, 14, 20, 14, 23, 10, 23]]), tmp_path / "out"
    )
    mask = load(tmp_path / "out" / "masks" / "a.png") > 0
    assert report.form == "coco"
    assert mask.sum() == 12
    assert mask[20:23, 10:14].all()


def encoded(mask: np.ndarray) -> str:
    """Write run lengths as the COCO API does."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
    runs = np.diff(np.concatenate([[0], edges])).tolist()
    text = ""
    for index, run in enumerate(runs):
        value, more = run - (runs[index - 2] if index > 2 else 0), True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text += chr((group | (32 if more else 0)) + 48)
    return text


@pytest.mark.parametrize("compressed", [True, False])
def test_coco_run_lengths_keep_holes(compressed: bool, tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    cv2.circle(mask, (30, 40), 15, 1, -1)
    cv2.circle(mask, (30, 40), 5, 0, -1)
    flat = np.concatenate([[0], np.flatnonzero(np.diff(mask.T.ravel())) + 1, [mask.size]])
    counts: object = encoded(mask) if compressed else np.diff(flat).tolist()
    import_data(coco(tmp_path / "in", {"size": [64, 64], "counts": counts}), tmp_path / "out")
    assert (load(tmp_path / "out" / "masks" / "a.png") == mask * 255).all()


@pytest.mark.parametrize("counts", [[5, 5], [-1, 4097]], ids=str)
def test_run_lengths_of_another_image_are_refused(counts: list[int], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Run lengths add up"):
        import_data(coco(tmp_path / "in", {"size": [64, 64], "counts": counts}), tmp_path / "out")


def test_an_annotation_cannot_name_a_file_outside_its_source(tmp_path: Path) -> None:
    save(tmp_path / "secret.png", scene()[0])
    coco(tmp_path / "in", [])
    text = (tmp_path / "in" / "instances.json").read_text().replace("a.png", "../secret.png")
    (tmp_path / "in" / "instances.json").write_text(text)
    with pytest.raises(DataError, match="inside the source"):
        import_data(tmp_path / "in", tmp_path / "out")


def test_labelme_shapes_become_classes_and_objects(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", scene()[0])
    done, small = cv2.imencode(".png", np.ones((3, 2), np.uint8))
    assert done
    shapes = [
        {"label": "wbc", "points": [[2, 2], [6, 2], [6, 6], [2, 6]], "shape_type": "polygon"},
        {"label": "rbc", "points": [[20, 20], [30, 25]], "shape_type": "rectangle"},
        {
            "label": "rbc", "points": [[30, 40], [36, 40], [36, 44], [30, 44]],
            "shape_type": "rectangle",
        },
        {"label": "rbc", "points": [[45, 45], [45, 50]], "shape_type": "circle"},
        {"label": "rbc", "points": [[60, 10]], "shape_type": "point"},
        {
            "label": "wbc", "points": [[50, 5], [51, 7]], "shape_type": "mask",
            "mask": base64.b64encode(small.tobytes()).decode(),
        },
    ]  # fmt: skip
    tree = {"shapes": shapes, "imagePath": "..\\in\\a.png", "imageData": None}
    (tmp_path / "in" / "a.json").write_text(json.dumps(tree))
    report = import_data(tmp_path / "in", tmp_path / "out")
    mask = load(tmp_path / "out" / "masks" / "a.png")
    assert list(report.classes) == ["rbc", "wbc"]
    assert report.classes["wbc"] == 16 + 6
    assert (mask == 1).sum() == pytest.approx(50 + 24 + np.pi * 25, rel=0.05)
    assert report.objects == 5
    assert report.notes == ["1 shapes of kind point have no area and are left out"]


def test_outlines_on_a_turned_photo_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_jpeg(tmp_path / "in" / "a.jpg", scene()[0], exif(6))
    shapes = [{"label": "wbc", "points": [[2, 2], [6, 2], [6, 6]], "shape_type": "polygon"}]
    tree = {"shapes": shapes, "imagePath": "a.jpg", "imageData": None}
    (tmp_path / "in" / "a.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"orientation tag 6 of .*a\.jpg") as caught:
        import_data(tmp_path / "in", tmp_path / "out")
    assert "-auto-orient" in str(caught.value.hint)
    write_jpeg(tmp_path / "in" / "a.jpg", scene()[0], exif(1))
    assert import_data(tmp_path / "in", tmp_path / "out").objects == 1


def feature(rings: list, name: str, color: list[int] | None = None) -> dict:
    kind = {"name": name} | ({"color": color} if color else {})
    geometry = {"type": "Polygon", "coordinates": rings}
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": kind}}


def square(x0: int, y0: int, side: int) -> list:
    x1, y1 = x0 + side, y0 + side
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def test_qupath_annotations_are_cut_into_tiles_at_a_pixel_size(tmp_path: Path) -> None:
    import tifffile

    slide = np.full((400, 600, 3), 200, np.uint8)
    (tmp_path / "in").mkdir()
    resolution = {"resolution": (1e4 / 0.25, 1e4 / 0.25), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        tmp_path / "in" / "s.tif", slide, tile=(64, 64), photometric="rgb", **resolution
    )
    tree = {
        "type": "FeatureCollection",
        "features": [
            feature([square(20, 40, 80), square(40, 60, 20)], "Tumor", [200, 0, 0]),
            feature([square(520, 300, 40)], "Stroma"),
        ],
    }
    (tmp_path / "in" / "s.geojson").write_text(json.dumps(tree))
    cut = ImportOptions(slides=QuPathOptions(tile_px=128, mpp=0.5))
    report = import_data(tmp_path / "in", tmp_path / "out", cut)
    assert report.form == "qupath"
    assert report.classes == {"Stroma": 400, "Tumor": 1600 - 100}
    # The slide is 300 x 200 px at 0.5, the last tiles lie flush: two hold Tumor, one Stroma.
    stems = {row["stem"] for row in rows_of(tmp_path / "out")}
    assert stems == {"s_x0_y0", "s_x172_y72"}
    mask = load(tmp_path / "out" / "masks" / "s_x0_y0.png")
    assert mask.shape == (128, 128)
    assert mask[25, 15] == 2
    assert mask[35, 25] == 0  # the hole


def test_a_qupath_object_of_several_geometries_is_drawn_whole(tmp_path: Path) -> None:
    import tifffile

    (tmp_path / "in").mkdir()
    slide = np.full((100, 100, 3), 200, np.uint8)
    tifffile.imwrite(tmp_path / "in" / "s.tif", slide, photometric="rgb")
    entry = feature([square(2, 4, 8)], "Tumor")
    unclosed = {"type": "Polygon", "coordinates": [square(50, 50, 8)[:-1]]}
    entry["geometry"] = {"type": "GeometryCollection", "geometries": [entry["geometry"], unclosed]}
    line = entry | {"geometry": {"type": "LineString", "coordinates": [[0, 0], [9, 9]]}}
    tree = {"type": "FeatureCollection", "features": [entry, line]}
    (tmp_path / "in" / "s.geojson").write_text(json.dumps(tree))
    cut = ImportOptions(slides=QuPathOptions(tile_px=128))
    report = import_data(tmp_path / "in", tmp_path / "out", cut)
    assert report.classes == {"Tumor": 2 * 64}
    assert "s.geojson: a polygon is not closed; its ends are joined" in report.notes
    assert "s.geojson: 1 points or lines have no inside and are left out" in report.notes


def test_tiles_of_slides_whose_names_begin_alike_do_not_meet(tmp_path: Path) -> None:
    import tifffile

    for name in ("s.1", "s.2"):
        (tmp_path / "in").mkdir(exist_ok=True)
        slide = np.full((100, 100, 3), 200, np.uint8)
        tifffile.imwrite(tmp_path / "in" / f"{name}.tif", slide, photometric="rgb")
        tree = {"type": "FeatureCollection", "features": [feature([square(2, 4, 8)], "Tumor")]}
        (tmp_path / "in" / f"{name}.geojson").write_text(json.dumps(tree))
    cut = ImportOptions(slides=QuPathOptions(tile_px=128))
    import_data(tmp_path / "in", tmp_path / "out", cut)
    found = {(row["stem"], row["parent"]) for row in rows_of(tmp_path / "out")}
    assert found == {("s.1_x0_y0", "s.1"), ("s.2_x0_y0", "s.2")}


def test_what_is_not_an_annotation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="holds annotations or is an archive"):
        import_data(tmp_path / "notes.json", tmp_path / "out")
    with pytest.raises(DataError, match="no image in"):
        import_data(tmp_path, tmp_path / "out2")


def test_the_command_says_what_it_changed(tmp_path: Path) -> None:
    write_source(tmp_path / "in", suffix=".jpg")
    arguments = ["data", "import", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, [*arguments, "--classes", "nucleus"])
    assert ran.exit_code == 0, ran.output
    assert "form        binary" in ran.stdout
    assert "class       nucleus:" in ran.stdout
    assert "thresholded at 127" in ran.stdout
    again = CliRunner().invoke(app, [*arguments, "--json"])
    assert again.exit_code == 1
    assert "new or empty folder" in again.stderr
    assert "hint:" in again.stderr


@pytest.mark.parametrize("name", ["#ff0000", "white"])
def test_blends_at_the_edges_of_colours_are_no_classes(name: str, tmp_path: Path) -> None:
    ground = (255, 255, 255) if name == "white" else (0, 0, 0)
    colours = np.array([ground, (0, 0, 255), (255, 0, 0)], np.uint8)
    for index in range(3):
        image, labels = scene(index)
        save(tmp_path / "in" / "images" / f"{index}.png", image)
        sharp = cv2.resize(colours[classes_of(labels)], None, fx=4, fy=4, interpolation=0)
        soft = cv2.resize(cv2.GaussianBlur(sharp, (0, 0), 2.5), (64, 64), interpolation=3)
        save(tmp_path / "in" / "masks" / f"{index}.png", soft)
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert len(report.classes) == 2
    mask = load(tmp_path / "out" / "masks" / "0.png")
    assert np.count_nonzero(mask != classes_of(scene(0)[1])) < 0.01 * mask.size


def test_the_soft_edges_of_small_cells_do_not_hide_a_binary_mask(tmp_path: Path) -> None:
    for index in range(3):
        image, labels = scene(index)
        save(tmp_path / "in" / "images" / f"{index}.png", image)
        soft = cv2.GaussianBlur((labels > 0).astype(np.uint8) * 255, (0, 0), 1.2)
        save(tmp_path / "in" / "masks" / f"{index}.png", soft)
    assert import_data(tmp_path / "in", tmp_path / "out").form == "binary"


@pytest.mark.parametrize("white", [4095, 65535])
def test_the_soft_edges_of_deep_masks_are_neither_objects_nor_classes(
    white: int, tmp_path: Path
) -> None:
    for index in range(3):
        image, labels = scene(index)
        save(tmp_path / "in" / "images" / f"{index}.png", image)
        soft = cv2.GaussianBlur((labels > 0).astype(np.float32) * white, (0, 0), 1.2)
        save(tmp_path / "in" / "masks" / f"{index}.png", soft.astype(np.uint16))
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert report.form == "binary"
    mask = load(tmp_path / "out" / "masks" / "0.png") > 0
    assert np.count_nonzero(mask != (scene(0)[1] > 0)) < 0.01 * mask.size


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_dark_grey_cut_out_keeps_its_cells(suffix: str, tmp_path: Path) -> None:
    for index in range(3):
        image, labels = scene(index)
        grey = image.max(-1) // 4 + np.arange(64, dtype=np.uint8)[:, None] // 4
        save(tmp_path / "in" / "images" / f"{index}.png", grey)
        save(tmp_path / "in" / "masks" / f"{index}{suffix}", np.where(labels > 0, grey, 0))
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert report.form == "cutout"
    mask = load(tmp_path / "out" / "masks" / "0.png") > 0
    assert np.count_nonzero(mask != (scene(0)[1] > 0)) < 0.01 * mask.size


def test_a_jpeg_of_several_greys_is_refused(tmp_path: Path) -> None:
    for index in range(3):
        image, labels = scene(index)
        save(tmp_path / "in" / "images" / f"{index}.png", image)
        greys = np.array([0, 128, 255], np.uint8)[classes_of(labels)]
        greys[10:40, 10:40] = 128
        save(tmp_path / "in" / "masks" / f"{index}.jpg", greys)
    with pytest.raises(DataError, match="black and white"):
        import_data(tmp_path / "in", tmp_path / "out")


def test_transparent_pixels_of_a_mask_are_background(tmp_path: Path) -> None:
    image, labels = scene()
    inside = (labels > 0).astype(np.uint8)[..., None] * 255
    for name, colour in (("cutout", image), ("plain", np.zeros_like(image))):
        save(tmp_path / name / "images" / "a.png", image)
        bgra = np.concatenate([colour[..., ::-1], inside], -1)
        (tmp_path / name / "masks").mkdir()
        assert cv2.imwrite(str(tmp_path / name / "masks" / "a.png"), bgra)
        import_data(tmp_path / name, tmp_path / f"{name}-out")
        assert (load(tmp_path / f"{name}-out" / "masks" / "a.png") == inside[..., 0]).all()


def test_numpy_masks_are_read_and_pickled_ones_refused(tmp_path: Path) -> None:
    image, labels = scene()
    save(tmp_path / "in" / "images" / "a.png", image)
    (tmp_path / "in" / "masks").mkdir()
    np.save(tmp_path / "in" / "masks" / "a.npy", labels.astype(np.int64) + 300 * (labels > 0))
    assert import_data(tmp_path / "in", tmp_path / "out").form == "instances"
    assert (load(tmp_path / "out" / "labels" / "a.png") == labels).all()
    np.save(tmp_path / "in" / "masks" / "a.npy", np.array({"masks": labels}), allow_pickle=True)
    with pytest.raises(DataError, match="one array of numbers"):
        import_data(tmp_path / "in", tmp_path / "out2")


@pytest.mark.parametrize("suffix", ["tif", "npy"])
@pytest.mark.parametrize(
    "values",
    [np.float32([0, 0.4]), np.float32([0, np.nan]), np.int16([0, -1]), np.array([0, 1j])],
    ids=["probabilities", "nan", "negative", "complex"],
)
def test_values_that_number_nothing_are_no_mask(
    values: np.ndarray, suffix: str, tmp_path: Path
) -> None:
    """Probabilities were cut above 0, which made every cell several times its size."""
    import tifffile

    image, labels = scene()
    save(tmp_path / "in" / "images" / "a.png", image)
    (tmp_path / "in" / "masks").mkdir()
    write = tifffile.imwrite if suffix == "tif" else np.save
    write(tmp_path / "in" / "masks" / f"a.{suffix}", values[(labels > 0).astype(int)])
    with pytest.raises(DataError, match="whole numbers from 0 on"):
        import_data(tmp_path / "in", tmp_path / "out")


def test_a_stack_is_no_mask(tmp_path: Path) -> None:
    import tifffile

    image, labels = scene()
    save(tmp_path / "in" / "images" / "a.png", image)
    (tmp_path / "in" / "masks").mkdir()
    pages = np.stack([labels == 1, labels == 2]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "in" / "masks" / "a.tif", pages, photometric="minisblack")
    with pytest.raises(DataError, match="2 pages"):
        import_data(tmp_path / "in", tmp_path / "out")


def test_labels_that_hold_classes_are_not_taken_for_objects(tmp_path: Path) -> None:
    for index in range(3):
        image, labels = scene(index)
        save(tmp_path / "in" / "image" / f"{index}.png", image)
        save(tmp_path / "in" / "label" / f"{index}.png", classes_of(labels))
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert (report.form, len(report.classes)) == ("index", 2)
    assert report.notes == ["labels/ hold masks: taken as index, not as objects"]


def test_objects_painted_in_colours_of_their_own_stay_objects(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(3):
        image, labels = scene(index, 128, 14)
        save(tmp_path / "in" / "images" / f"{index}.png", image)
        colours = rng.integers(40, 255, (15, 3)).astype(np.uint8) * (np.arange(15) > 0)[:, None]
        save(tmp_path / "in" / "masks" / f"{index}.png", colours.astype(np.uint8)[labels])
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert (report.form, len(report.classes)) == ("instances", 1)
    assert report.objects == sum(int(scene(index, 128, 14)[1].max()) for index in range(3))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a_img.png", "a_masks.png"),
        ("a.png", "mask_a.png"),
        ("a.png", "a_cp_masks.png"),
        ("images/img_a.png", "masks/mask_a.png"),
        ("train_images/a.png", "train_masks/a.png"),
        ("Cell Images/a.png", "Cell Masks/a.png"),
        ("images/a.png", "images/a_mask.png"),
        ("JPEGImages/a.png", "SegmentationClass/a.png"),
        ("images/a.ome.tif", "masks/a.png"),
    ],
    ids=str,
)
def test_images_and_masks_pair_however_they_are_named(
    image: str, mask: str, tmp_path: Path
) -> None:
    save(tmp_path / "in" / image, scene()[0])
    save(tmp_path / "in" / mask, (scene()[1] > 0).astype(np.uint8) * 255)
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert report.images == {"train" if "train" in image else "": 1}


def test_a_folder_that_is_merely_called_masks_of_something_keeps_its_images(
    tmp_path: Path,
) -> None:
    save(tmp_path / "in" / "my segmentation" / "a.png", scene()[0])
    save(tmp_path / "in" / "my segmentation" / "a_mask.png", (scene()[1] > 0).astype(np.uint8))
    assert import_data(tmp_path / "in", tmp_path / "out").images == {"": 1}


def test_masks_of_an_object_each_may_lie_in_a_folder_of_the_images_name(tmp_path: Path) -> None:
    image, labels = scene(1)
    save(tmp_path / "in" / "images" / "abc.png", image)
    for label in range(1, 5):
        path = tmp_path / "in" / "masks" / "abc" / f"{label}.png"
        save(path, (labels == label).astype(np.uint8) * 255)
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert (report.form, report.objects) == ("folders", 4)
    assert (load(tmp_path / "out" / "labels" / "abc.png") == labels).all()


def changed(root: Path, change: object) -> Path:
    """Write a COCO source and change its tree."""
    coco(root, [[10, 20, 14, 20, 14, 23, 10, 23]])
    tree = json.loads((root / "instances.json").read_text())
    change(tree)  # type: ignore[operator]
    (root / "instances.json").write_text(json.dumps(tree))
    return root


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree["images"][0].pop("file_name"), "without file_name"),
        (lambda tree: tree.pop("categories"), "a list 'categories'"),
        (lambda tree: tree["images"][0].update(width=640), "says 640 x 64"),
        (lambda tree: tree["annotations"][0].update(segmentation=[]), "1 boxes"),
        (lambda tree: tree["annotations"][0].update(category_id=9), "not among the categories"),
        (lambda tree: tree["annotations"].append(7), "without image_id"),
        (lambda tree: tree["images"].append(tree["images"][0]), "more than once"),
        (
            lambda tree: tree["annotations"][0].update(segmentation=[[float("nan")] * 6]),
            "corners of an outline are numbers",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_coco_that_does_not_fit_is_refused(change: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_data(changed(tmp_path / "in", change), tmp_path / "out")


def test_coco_may_name_images_and_categories_by_words(tmp_path: Path) -> None:
    def named(tree: dict) -> None:
        tree["images"][0]["id"] = tree["annotations"][0]["image_id"] = "slide-a"
        tree["categories"][0]["id"] = tree["annotations"][0]["category_id"] = "c1"

    assert import_data(changed(tmp_path / "in", named), tmp_path / "out").objects == 1


@pytest.mark.parametrize("ids", [("1_12", "11_2"), (1.2, 1.7)], ids=["tiles", "parts"])
def test_ids_of_coco_that_only_look_like_one_number_are_two(
    ids: tuple[object, object], tmp_path: Path
) -> None:
    def named(tree: dict) -> None:
        tree["images"][0]["id"] = tree["annotations"][0]["image_id"] = ids[0]
        tree["images"].append(tree["images"][0] | {"id": ids[1], "file_name": "b.png"})

    root = changed(tmp_path / "in", named)
    save(root / "b.png", scene()[0])
    assert import_data(root, tmp_path / "out").objects == 1


@pytest.mark.parametrize(
    ("image_id", "category_id"), [("1", "1"), (1.0, 1.0)], ids=["texts", "parts"]
)
def test_numbers_of_coco_count_as_numbers_however_they_are_written(
    image_id: object, category_id: object, tmp_path: Path
) -> None:
    def written(tree: dict) -> None:
        tree["images"][0]["id"] = tree["categories"][0]["id"] = 1
        tree["annotations"][0].update(image_id=image_id, category_id=category_id)

    assert import_data(changed(tmp_path / "in", written), tmp_path / "out").objects == 1


def test_annotations_of_images_that_are_not_listed_are_said(tmp_path: Path) -> None:
    def strayed(tree: dict) -> None:
        tree["annotations"].append(tree["annotations"][0] | {"image_id": 77})

    report = import_data(changed(tmp_path / "in", strayed), tmp_path / "out")
    assert report.objects == 1
    assert report.notes == ["1 annotations name no image of their file and are left out"]


@pytest.mark.parametrize(
    ("name", "tree", "message"),
    [
        ("a.json", {"shapes": None, "imagePath": "a.png"}, "a list 'shapes'"),
        ("a.geojson", {"type": "FeatureCollection", "features": [7]}, "features of GeoJSON"),
    ],
    ids=["labelme", "geojson"],
)
def test_annotations_that_are_no_objects_are_refused(
    name: str, tree: dict, message: str, tmp_path: Path
) -> None:
    save(tmp_path / "in" / "a.png", scene()[0])
    (tmp_path / "in" / name).write_text(json.dumps(tree))
    with pytest.raises(DataError, match=message):
        import_data(tmp_path / "in", tmp_path / "out")


def test_an_image_with_brackets_in_its_name_is_found_in_another_folder(tmp_path: Path) -> None:
    root = changed(tmp_path / "in", lambda tree: tree["images"][0].update(file_name="x/a [1].png"))
    (root / "pictures").mkdir()
    (root / "images" / "a.png").rename(root / "pictures" / "a [1].png")
    assert import_data(root, tmp_path / "out").objects == 1


def test_coco_is_read_with_a_byte_order_mark_compressed_or_by_its_file(tmp_path: Path) -> None:
    root = changed(tmp_path / "in", lambda tree: tree["annotations"][0].update(iscrowd=1))
    save(root / "images" / "b.png", scene(1)[0])
    data = b"\xef\xbb\xbf" + (root / "instances.json").read_bytes()
    (root / "instances.json").unlink()
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val2017.json.gz").write_bytes(gzip.compress(data))
    for source in (root, root / "annotations" / "instances_val2017.json.gz"):
        report = import_data(source, tmp_path / f"out-{source.suffix}")
        assert report.images == {"valid": 1}
        assert report.notes == [
            "1 crowds (iscrowd) count as one object each",
            "1 images that no annotation names are left out (b.png)",
        ]


def test_labelme_may_hold_its_image_and_joins_shapes_of_a_group(tmp_path: Path) -> None:
    done, data = cv2.imencode(".png", scene()[0][..., ::-1])
    assert done
    squares = [[[x, 2], [x + 4, 2], [x + 4, 6], [x, 6]] for x in (2, 12, 22)]
    shapes = [
        {"label": "wbc", "points": points, "shape_type": "polygon", "group_id": group}
        for points, group in zip(squares, (7, 7, None), strict=True)
    ]
    tree = {"shapes": shapes, "imagePath": "C:\\pictures\\gone.png"}
    tree["imageData"] = base64.b64encode(data.tobytes()).decode()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text(json.dumps(tree))
    report = import_data(tmp_path / "in", tmp_path / "out")
    assert report.objects == 2
    assert (load(tmp_path / "out" / "images" / "a.png") == scene()[0]).all()


def test_qupath_classes_may_be_derived_or_names_of_objects(tmp_path: Path) -> None:
    derived = feature([square(2, 2, 8)], "x")
    derived["properties"]["classification"] = {"names": ["Tumor", "Positive"]}
    named = feature([square(2, 2, 8)], "x")
    named["properties"] = {"name": "Gland"}
    counted = feature([square(2, 2, 8)], "x")
    counted["properties"] = {"name": "Annotation 3"}
    for entry, name in ((derived, "Tumor: Positive"), (named, "Gland"), (counted, "cell")):
        root = tmp_path / name.partition(":")[0]
        save(root / "slides" / "s.png", scene()[0])
        (root / "annotations").mkdir()
        (root / "annotations" / "s.geojson").write_text(json.dumps([entry]))
        (root / "annotations" / "t.geojson").write_text('{"type": "FeatureCollection"}')
        report = import_data(root, tmp_path / f"out-{name[:4]}")
        assert report.classes == {name: 64}


@pytest.mark.parametrize("mpp", [0.0, -1.0, math.nan, math.inf])
def test_a_pixel_size_that_is_none_is_refused(mpp: float, tmp_path: Path) -> None:
    save(tmp_path / "in" / "s.png", scene()[0])
    tree = [feature([square(2, 2, 8)], "x")]
    (tmp_path / "in" / "s.geojson").write_text(json.dumps(tree))
    with pytest.raises(DataError, match="above 0 µm"):
        import_data(tmp_path / "in", tmp_path / "out", ImportOptions(slides=QuPathOptions(mpp=mpp)))


@pytest.mark.parametrize(
    ("properties", "name"),
    [("words", "cell"), ({"classification": {"name": "A", "color": ["red", "", ""]}}, "A")],
    ids=["properties", "colour"],
)
def test_what_says_nothing_of_an_annotation_is_passed_by(
    properties: object, name: str, tmp_path: Path
) -> None:
    save(tmp_path / "in" / "s.png", scene()[0])
    tree = [feature([square(2, 2, 8)], "x") | {"properties": properties}]
    (tmp_path / "in" / "s.geojson").write_text(json.dumps(tree))
    assert import_data(tmp_path / "in", tmp_path / "out").classes == {name: 64}


def background_over_a_cell(form: str) -> dict:
    drawn = (("cell", square(2, 2, 8)), ("Background", square(2, 2, 4)))
    if form == "coco":
        names = [{"id": number, "name": name} for number, (name, _) in enumerate(drawn)]
        objects = [
            {"image_id": 0, "category_id": number, "segmentation": [np.ravel(ring).tolist()]}
            for number, (_, ring) in enumerate(drawn)
        ]
        image = {"id": 0, "file_name": "a.png"}
        return {"images": [image], "annotations": objects, "categories": names}
    if form == "labelme":
        shapes = [{"label": name, "points": ring[:-1]} for name, ring in drawn]
        return {"shapes": shapes, "imagePath": "a.png"}
    features = [feature([ring], name) for name, ring in drawn]
    return {"type": "FeatureCollection", "features": features}


@pytest.mark.parametrize("names", [(), ("cell",)], ids=["found", "given"])
@pytest.mark.parametrize("form", ["coco", "labelme", "geojson"])
def test_what_is_annotated_as_background_is_background(
    form: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    """It became a class of that name beside background, which --classes could not leave out."""
    save(tmp_path / "in" / "a.png", scene()[0])
    suffix = "geojson" if form == "geojson" else "json"
    (tmp_path / "in" / f"a.{suffix}").write_text(json.dumps(background_over_a_cell(form)))
    options = ImportOptions(masks=MaskOptions(class_names=names))
    report = import_data(tmp_path / "in", tmp_path / "out", options)
    assert (report.objects, report.classes) == (1, {"cell": 64 - 16})


def test_background_is_no_class_to_name(tmp_path: Path) -> None:
    image, labels = scene()
    save(tmp_path / "in" / "images" / "a.png", image)
    save(tmp_path / "in" / "masks" / "a.png", labels)
    options = ImportOptions(masks=MaskOptions(class_names=("Background", "cell")))
    with pytest.raises(DataError, match="names the foreground"):
        import_data(tmp_path / "in", tmp_path / "out", options)


def test_masks_that_show_nothing_or_nearly_everything_are_doubted(tmp_path: Path) -> None:
    for name, value in (("black", 0), ("white", 255)):
        save(tmp_path / name / "images" / "a.png", scene()[0])
        save(tmp_path / name / "masks" / "a.png", np.full((64, 64), value, np.uint8))
    black, white = (
        import_data(tmp_path / name, tmp_path / f"{name}-out") for name in ("black", "white")
    )
    assert black.notes == ["no mask shows an object"]
    assert "inverted" in white.notes[0]
