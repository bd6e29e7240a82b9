"""A split keeps groups whole, classes everywhere, and lets nothing leak."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.data.form.dataset import open_dataset
from cellseg.data.form.padding import without_padding
from cellseg.data.splits.alike import alike_pairs, thumbs_of
from cellseg.data.splits.borders import borders_of, neighbour_pairs
from cellseg.data.splits.leaks import Leak, join_groups
from cellseg.data.splits.split import SplitOptions, check_leaks, split_data
from cellseg.data.tile import TileOptions, tile_data
from cellseg.errors import DataError
from tests.data.made import load, save, scene


def test_tiles_of_one_image_stay_together(tmp_path: Path) -> None:
    for index in range(5):
        image = np.zeros((128, 128, 3), np.uint8)
        for y, x in ((20, 20), (20, 90), (90, 20), (90, 90)):
            image[y : y + 10, x : x + 10 + index] = 200
        write_set(tmp_path / "in", {f"i{index}": image})
    tile_data(tmp_path / "in", tmp_path / "tiles", TileOptions(tile_px=64))
    alone = SplitOptions(seed=3, join_leaks=False)
    assert not split_data(tmp_path / "tiles", tmp_path / "out", alone).warnings
    places: dict[str, set[str]] = {}
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            places.setdefault(row["parent"], set()).add(row["split"])
    assert len(places) == 5
    assert all(len(found) == 1 for found in places.values())


def test_tiles_of_too_few_images_are_divided_and_that_is_said(tmp_path: Path) -> None:
    image = np.zeros((64, 256, 3), np.uint8)
    image[20:40, ::32] = 200
    write_set(tmp_path / "in", {"only": image})
    tile_data(tmp_path / "in", tmp_path / "tiles", TileOptions(tile_px=64))
    report = split_data(tmp_path / "tiles", tmp_path / "out", SplitOptions(join_leaks=False))
    assert any("tiles of 'only' lie in several splits" in text for text in report.warnings)


def write_set(root: Path, images: dict[str, np.ndarray]) -> Path:
    """Write a data set whose masks are the bright parts."""
    for stem, image in images.items():
        save(root / "images" / f"{stem}.png", image)
        save(root / "masks" / f"{stem}.png", (image[..., 0] > 100).astype(np.uint8) * 255)
    return root


def scenes(count: int, groups: int = 0) -> dict[str, np.ndarray]:
    names = [f"g{i % groups}_{i}" if groups else f"{i:03}" for i in range(count)]
    return {name: scene(i)[0] for i, name in enumerate(names)}


def split_of(out: Path) -> dict[str, str]:
    rows = csv.DictReader((out / "manifest.csv").read_text().splitlines())
    return {row["stem"]: row["split"] for row in rows}


def test_groups_stay_whole_and_shares_are_met(tmp_path: Path) -> None:
    write_set(tmp_path / "in", scenes(40, groups=10))
    options = SplitOptions(pattern="^(g[0-9]+)_")
    report = split_data(tmp_path / "in", tmp_path / "out", options)
    assert report.groups == 10
    assert report.images == {"train": 32, "valid": 4, "test": 4}
    found = split_of(tmp_path / "out")
    assert all(len({s for n, s in found.items() if n.startswith(f"g{g}_")}) == 1 for g in range(10))
    assert (tmp_path / "out" / "test" / "masks").is_dir()


def test_the_same_seed_gives_the_same_split(tmp_path: Path) -> None:
    write_set(tmp_path / "in", scenes(20))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        split_data(tmp_path / "in", tmp_path / name, SplitOptions(seed=seed, join_leaks=False))
    one, two, three = (split_of(tmp_path / name) for name in "abc")
    assert one == two
    assert one != three


def six_times(image: np.ndarray) -> list[np.ndarray]:
    """Seed 000's augmentation, saved as it saved them: as JPEG."""
    turned = [np.rot90(image, quarter) for quarter in range(4)] + [image[:, ::-1], image[::-1]]
    coded = [cv2.imencode(".jpg", np.ascontiguousarray(part))[1] for part in turned]
    return [cv2.imdecode(data, cv2.IMREAD_COLOR) for data in coded]


def test_the_leak_of_an_augmented_and_then_split_set_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(6):
        for copy, image in enumerate(six_times(scene(index, 96, 6)[0])):
            split = ("train", "valid", "test")[rng.integers(3)]
            write_set(tmp_path / "in" / split, {f"{index}_{copy}": image})
    dataset, leaks = check_leaks(tmp_path / "in")
    pairs = {(dataset.items[k.one].stem[0], dataset.items[k.two].stem[0]) for k in leaks}
    assert pairs == {(str(index), str(index)) for index in range(6)}
    report = split_data(tmp_path / "in", tmp_path / "out")
    assert report.groups == 6
    assert {leak.kind for leak in report.joined} == {"copy"}
    assert check_leaks(tmp_path / "out")[1] == []


def textured(seed: int, hw: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(seed).random(hw, dtype=np.float32)
    field = cv2.GaussianBlur(noise, (0, 0), 3)
    field = (field - field.min()) / np.ptp(field)
    return np.repeat((field * 255).astype(np.uint8)[..., None], 3, -1)


def test_crops_that_continue_each_other_are_found_and_no_others() -> None:
    crops = []
    for seed in range(4):
        field = textured(seed, (96, 128))
        crops += [field[:48, :64], field[:48, 64:], field[48:, :64], field[48:, 64:]]
    pairs = {(one, two) for one, two, _ in neighbour_pairs([borders_of(c) for c in crops])}
    expected = {
        (4 * f + a, 4 * f + b) for f in range(4) for a, b in ((0, 1), (2, 3), (0, 2), (1, 3))
    }
    assert pairs == expected


def test_borders_without_structure_fit_nothing() -> None:
    flat = [borders_of(np.full((32, 32, 3), value, np.uint8)) for value in (10, 10, 200)]
    assert neighbour_pairs(flat) == []


def test_different_images_are_not_taken_for_copies() -> None:
    thumbs = [thumbs_of(scene(index, 96, 6)[0]) for index in range(40)]
    assert alike_pairs(thumbs) == []
    assert alike_pairs([thumbs_of(np.zeros((40, 40, 3), np.uint8))] * 2) == []  # blank
    assert alike_pairs([]) == []


def test_neighbouring_crops_of_real_fields_stay_in_one_split(shared_data: Path) -> None:
    root = shared_data / "dsb2018_nuclei"
    stems = ["136000dc18fa6def", "3b0709483b1e8644", "4cbd6c37f3a55a53"]
    paths = {item.stem: item.image for item in open_dataset(root).items}
    images = [load(paths[stem]) for stem in stems]
    pairs = neighbour_pairs([borders_of(np.ascontiguousarray(image)) for image in images])
    assert [pair[:2] for pair in pairs] == [(0, 1), (0, 2)]


def test_a_class_that_few_images_show_is_dealt_to_every_split(tmp_path: Path) -> None:
    for index in range(30):
        image, labels = scene(index)
        save(tmp_path / "in" / "images" / f"{index}.png", image)
        rare = np.where(labels > 0, 2 if index % 10 == 0 else 1, 0).astype(np.uint8)
        save(tmp_path / "in" / "masks" / f"{index}.png", rare)
    (tmp_path / "in" / "classes.json").write_text(
        '{"classes": [{"value": 1, "name": "often"}, {"value": 2, "name": "rare"}]}'
    )
    for seed in range(3):
        options = SplitOptions(seed=seed, join_leaks=False)
        report = split_data(tmp_path / "in", tmp_path / f"out{seed}", options)
        assert report.class_images["rare"] == {"train": 1, "valid": 1, "test": 1}
        assert report.warnings == []


def test_a_class_left_out_of_train_is_said(tmp_path: Path) -> None:
    write_set(tmp_path / "in", scenes(3))
    (tmp_path / "in" / "classes.json").write_text(
        '{"classes": [{"value": 255, "name": "cell"}, {"value": 7, "name": "rare"}]}'
    )
    save(tmp_path / "in" / "masks" / "001.png", np.full((64, 64), 7, np.uint8))
    table = tmp_path / "groups.csv"
    table.write_text("stem,group,split\n000,a,train\n001,b,test\n002,c,valid\n")
    report = split_data(tmp_path / "in", tmp_path / "out", SplitOptions(table=table))
    assert "class 'rare' is not in train: it cannot be learned" in report.warnings


def test_a_group_in_two_splits_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "in", scenes(3))
    table = tmp_path / "groups.csv"
    table.write_text("stem,group,split\n000,a,train\n001,a,test\n002,c,valid\n")
    with pytest.raises(DataError, match="group 'a' in test and train"):
        split_data(tmp_path / "in", tmp_path / "out", SplitOptions(table=table))
    assert not (tmp_path / "out").exists()


def test_copies_in_two_given_splits_are_refused_by_name(tmp_path: Path) -> None:
    images = scenes(3)
    images["001"] = np.ascontiguousarray(images["000"][::-1])
    write_set(tmp_path / "in", images)
    table = tmp_path / "groups.csv"
    table.write_text("stem,group,split\n000,a,train\n001,b,test\n002,c,valid\n")
    with pytest.raises(DataError, match="000 and 001: copy"):
        split_data(tmp_path / "in", tmp_path / "out", SplitOptions(table=table))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SplitOptions(pattern="^x"), "matches every name"),
        (SplitOptions(pattern="("), "regular expression"),
        (SplitOptions(pattern="."), "1 groups for 3"),
        (SplitOptions(shares=(0.0, 0.5, 0.5)), "Shares are three"),
        (SplitOptions(shares=(0.8, math.nan, 0.1)), "Shares are three"),
        (SplitOptions(shares=(math.inf, 0.1, 0.1)), "Shares are three"),
        (SplitOptions(table=Path("none.csv")), "groups must be readable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_groups_that_cannot_be_made_are_explained(
    options: SplitOptions, message: str, tmp_path: Path
) -> None:
    write_set(tmp_path / "in", scenes(4))
    with pytest.raises(DataError, match=message):
        split_data(tmp_path / "in", tmp_path / "out", options)


def test_a_table_of_something_else_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    write_set(tmp_path / "in", scenes(4))
    table = tmp_path / "types.csv"
    table.write_text("stem,cell_type\n000,a\n")
    with pytest.raises(DataError, match=r"types\.csv without 'group'"):
        split_data(tmp_path / "in", tmp_path / "out", SplitOptions(table=table))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=14))
def test_joined_groups_are_the_connected_pieces(pairs: list[tuple[int, int]]) -> None:
    import scipy.sparse

    leaks = [Leak(min(p), max(p), "copy", 1.0) for p in pairs if p[0] != p[1]]
    joined = join_groups([f"{i:02}" for i in range(12)], leaks)
    graph = np.zeros((12, 12), bool)
    for leak in leaks:
        graph[leak.one, leak.two] = True
    _, pieces = scipy.sparse.csgraph.connected_components(graph, directed=False)
    for one in range(12):
        for two in range(12):
            assert (joined[one] == joined[two]) == (pieces[one] == pieces[two])


def test_the_command_checks_a_split(tmp_path: Path) -> None:
    images = scenes(2)
    write_set(tmp_path / "in" / "train", {"a": images["000"]})
    write_set(tmp_path / "in" / "test", {"b": np.ascontiguousarray(np.rot90(images["000"]))})
    ran = CliRunner().invoke(app, ["data", "split", str(tmp_path / "in"), "--check"])
    assert ran.exit_code == 1
    assert "train/a  test/b  copy" in ran.stdout
    write_set(tmp_path / "clean" / "train", {"a": images["000"]})
    clean = write_set(tmp_path / "clean" / "test", {"b": images["001"]}).parent
    assert CliRunner().invoke(app, ["data", "split", str(clean), "--check"]).exit_code == 0
    assert CliRunner().invoke(app, ["data", "split", str(clean)]).exit_code == 2


@pytest.mark.parametrize("inside", ["", "train"])
def test_a_set_that_is_not_split_is_not_called_free_of_leaks(inside: str, tmp_path: Path) -> None:
    image = scenes(1)["000"]
    write_set(tmp_path / "in" / inside, {"a": image, "b": image})
    ran = CliRunner().invoke(app, ["data", "split", str(tmp_path / "in"), "--check"])
    assert ran.exit_code == 1
    assert f"Received: {inside or 'none'} in" in ran.stderr


def test_a_table_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    source = write_set(tmp_path / "in", scenes(12))
    stems = sorted(path.stem for path in (source / "images").iterdir())
    rows = [
        f"{stem}.png;p{index % 4};{'Train' if index % 4 else ''}"
        for index, stem in enumerate(stems)
    ]
    table = tmp_path / "groups.csv"
    table.write_text("\ufeffStem;Group;Split\r\n" + "\r\n".join(rows), encoding="utf-8")
    split_data(
        source, tmp_path / "out", SplitOptions(table=table, join_leaks=False, shares=(8, 2, 0))
    )
    table.write_text(table.read_text() + f"\r\n{stems[0]};p9;Test")
    with pytest.raises(DataError, match="an image in one group"):
        split_data(source, tmp_path / "out2", SplitOptions(table=table))


def test_black_corners_of_turned_images_do_not_make_them_alike() -> None:
    rng = np.random.default_rng(0)
    corners = np.zeros((120, 120), np.uint8)
    cv2.fillConvexPoly(corners, np.array([[60, -20], [140, 60], [60, 140], [-20, 60]]), 1)
    fields = []
    for _ in range(6):
        noise = cv2.GaussianBlur(rng.normal(0, 1, (120, 120, 3)), (0, 0), 3)
        fields.append(np.clip(200 + 100 * noise, 90, 255).astype(np.uint8) * corners[..., None])
    cleaned = [without_padding(field) for field in fields]
    assert alike_pairs([thumbs_of(field) for field in fields])
    assert alike_pairs([thumbs_of(field) for field in cleaned]) == []
    assert min(field.min() for field in cleaned) > 60


def test_a_dark_ground_is_no_padding() -> None:
    image, _ = scene()
    dark = np.where(image > 100, image, 0).astype(np.uint8)
    assert without_padding(dark) is dark
    assert without_padding(image) is image


def test_a_group_in_two_splits_of_a_set_that_is_split_is_refused(tmp_path: Path) -> None:
    for index, (stem, image) in enumerate(scenes(6, groups=2).items()):
        write_set(tmp_path / "in" / ("train" if index < 4 else "test"), {stem: image})
    arguments = ["data", "split", str(tmp_path / "in"), "--check"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    ran = CliRunner().invoke(app, [*arguments, "--group-pattern", "^(g[0-9]+)_"])
    assert ran.exit_code == 1
    assert "A group lies in one split" in ran.stderr
