"""Every form of annotation comes out as the same pixels; what cannot be is refused, cleanly."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.data.dataset import open_dataset
from cellseg.data.import_data import ImportOptions, import_data
from cellseg.data.mask_files import MaskOptions
from cellseg.data.qupath import QuPathOptions
from cellseg.errors import DataError
from tests.data.made import classes_of, load, save, scene, write_source


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
    assert (mask == 1).sum() == pytest.approx(50 + np.pi * 25, rel=0.05)
    assert report.objects == 4
    assert report.notes == ["1 shapes of kind point have no area and are left out"]


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
