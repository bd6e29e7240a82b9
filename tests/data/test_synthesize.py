"""Smears: exact labels, no cell in two splits, the same bytes for any number of processes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.data.smear.classes import CLASSES, HEALTHY, INFECTED
from cellseg.data.smear.cutouts import Cutout, cut_from_folders, cut_red_cells, cut_white_cells
from cellseg.data.smear.field import FIELD_PX, make_field
from cellseg.data.smear.paste import Canvas, Turned, turned
from cellseg.data.smear.plan import deal_groups, plan_smears
from cellseg.data.smear.synthesize import SmearOptions, synthesize_smears
from cellseg.errors import DataError
from tests.data.made import load, save

GROUND = (230.0, 225.0, 228.0)


def cell(index: int, name: str, radius: int = 25, group: str | None = None) -> Cutout:
    """Return a disc of a class's colour."""
    side = 2 * radius + 7
    y, x = np.mgrid[:side, :side] - side // 2
    mask = (np.hypot(y, x) <= radius).astype(np.uint8)
    color = np.array(CLASSES[index].color) // 2 + 60
    rgb = np.where(mask[..., None] > 0, color, GROUND).astype(np.uint8)
    return Cutout(name, group or name, index, rgb, mask, GROUND)


def library(infected: int = 0) -> list[Cutout]:
    cells = [cell(HEALTHY, f"r{i}", group=f"field{i % 12}") for i in range(120)]
    cells += [cell(INFECTED, f"i{i}", group=f"sick{i % 12}") for i in range(infected)]
    cells += [cell(index, f"c{index}_{i}", 30) for index in range(1, 6) for i in range(10)]
    return [*cells, *(cell(6, f"p{i}", 6) for i in range(10))]


def rows_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "manifest.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def smears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("smears") / "out"
    synthesize_smears(library(), out, SmearOptions(count=20, seed=3, workers=1))
    return out


def test_a_split_has_its_parts_and_the_stated_number(smears: Path) -> None:
    for split, count in (("train", 20), ("valid", 2), ("test", 2)):
        for part in ("images", "masks", "labels", "colours", "boxes"):
            assert len(list((smears / split / part).iterdir())) == count
    assert load(smears / "train" / "images" / f"{rows_of(smears)[0]['stem']}.png").shape == (
        224,
        224,
        3,
    )


def test_colours_are_the_tables_and_nothing_between(smears: Path) -> None:
    palette = np.array([item.color for item in CLASSES], np.uint8)
    for row in rows_of(smears)[:12]:
        colours = load(smears / row["split"] / "colours" / f"{row['stem']}.png")
        assert (colours == palette[load(smears / row["mask"])]).all()


def test_boxes_are_those_of_the_instances(smears: Path) -> None:
    checked = 0
    for row in rows_of(smears)[:12]:
        ids = load(smears / row["labels"])
        tree = json.loads((smears / row["split"] / "boxes" / f"{row['stem']}.json").read_text())
        for item in tree["objects"]:
            y, x = np.nonzero(ids == item["label"])
            assert (item["tlX"], item["tlY"]) == (x.min(), y.min())
            assert (item["bboxW"], item["bboxH"]) == (np.ptp(x) + 1, np.ptp(y) + 1)
            checked += 1
    assert checked > 3


def test_no_cut_out_is_in_two_splits(smears: Path) -> None:
    used: dict[str, set[str]] = {}
    for row in rows_of(smears):
        tree = json.loads((smears / row["split"] / "boxes" / f"{row['stem']}.json").read_text())
        for item in tree["objects"]:
            used.setdefault(item["samplePath"], set()).add(row["split"])
    assert used
    assert all(len(splits) == 1 for splits in used.values())


def test_processes_change_no_byte(smears: Path, tmp_path: Path) -> None:
    synthesize_smears(library(), tmp_path / "two", SmearOptions(count=20, seed=3, workers=2))
    files = sorted(path.relative_to(smears) for path in smears.rglob("*") if path.is_file())
    assert len(files) > 120
    assert all((smears / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_weights_are_all_pixels_over_a_classes_own(smears: Path) -> None:
    masks = [load(path) for path in (smears / "train" / "masks").iterdir()]
    counts = np.bincount(np.concatenate([m.ravel() for m in masks]), minlength=10)
    weights = json.loads((smears / "synthesis.json").read_text())["class_weights"]
    assert weights["healthy red cell"] == pytest.approx(counts.sum() / counts[9], abs=0.01)
    assert "platelet clump" not in weights


def test_missing_classes_are_named_and_fields_follow_what_there_is() -> None:
    plan = plan_smears(library(), 200, seed=0)
    assert plan.missing == ["no samples of platelet clump", "no samples of infected red cell"]
    assert {background.kind for background in plan.backgrounds} == {"nn"}
    cells = library(infected=60)
    both = plan_smears(cells, 200, seed=0)
    assert {background.kind for background in both.backgrounds} == {"nn", "ii", "ni"}
    for background in both.backgrounds:
        classes = {cells[place].class_index for place in background.red}
        expected = {"nn": {HEALTHY}, "ii": {INFECTED}, "ni": {HEALTHY, INFECTED}}
        assert classes == expected[background.kind]


def test_every_cell_is_used_before_one_is_used_twice() -> None:
    cells = library()
    plan = plan_smears(cells, 60, seed=1)
    used = [c for b in plan.backgrounds if b.split == "train" for i in b.images for c in i.cells]
    for index in range(1, 7):
        places = [p for p in used if cells[p].class_index == index]
        counts = [places.count(p) for p in set(places)]
        assert max(counts) - min(counts) <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), st.integers(1, 40))
def test_groups_are_dealt_whole(seed: int, groups: int) -> None:
    cells = [cell(1 + i % 3, str(i), 3, group=f"g{i % groups}") for i in range(60)]
    splits = deal_groups(cells, seed)
    for group in {item.group for item in cells}:
        assert len({s for s, item in zip(splits, cells, strict=True) if item.group == group}) == 1


def test_a_class_of_ten_is_divided_eight_one_one() -> None:
    splits = deal_groups([cell(1, str(i)) for i in range(10)], seed=0)
    assert [splits.count(s) for s in ("train", "valid", "test")] == [8, 1, 1]


def test_a_pasted_edge_is_feathered_and_its_label_is_not() -> None:
    disc = cell(3, "n")
    canvas = Canvas(
        np.full((120, 120, 3), 200, np.uint8),
        np.zeros((120, 120), np.uint8),
        np.zeros((120, 120), np.uint16),
    )
    for seed in range(12):  # every way of turning
        part = turned(disc, np.random.default_rng(seed), 1.0, None)
        assert set(np.unique(part.mask)) == {0, 1}
        assert part.alpha.min() >= 0
        assert ((part.alpha > 0.05) & (part.alpha < 0.95)).sum() > 50
        assert int(part.mask.sum()) == pytest.approx(int(disc.mask.sum()), rel=0.03)
    box = canvas.paste(part, (60, 60), 3, 7)
    y, x = np.nonzero(canvas.classes)
    assert box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
    assert set(np.unique(canvas.classes)) == {0, 3}
    assert (canvas.ids[canvas.classes == 3] == 7).all()


@pytest.mark.parametrize(("centre", "share"), [((60, 60), 1.0), ((0, 60), 0.5), ((0, 0), 0.25)])
def test_a_cell_at_the_border_shows_a_half_or_a_quarter(
    centre: tuple[int, int], share: float
) -> None:
    canvas = Canvas(
        np.zeros((121, 121, 3), np.uint8),
        np.zeros((121, 121), np.uint8),
        np.zeros((121, 121), np.uint16),
    )
    disc = cell(3, "n")
    plain = Turned(disc.rgb.astype(np.float32), disc.mask.astype(np.float32), disc.mask)
    canvas.paste(plain, centre, 3, 1)
    assert (canvas.classes > 0).sum() / disc.mask.sum() == pytest.approx(share, abs=0.03)


def test_a_cell_outside_is_not_pasted() -> None:
    canvas = Canvas(
        np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint16)
    )
    part = turned(cell(3, "n", 4), np.random.default_rng(0), 0.0, None)
    assert canvas.paste(part, (100, 100), 3, 1) is None
    assert not canvas.classes.any()


def test_matched_colours_bring_the_ground_to_the_fields() -> None:
    dark = Cutout(
        "d", "d", 3, np.full((9, 9, 3), 100, np.uint8), np.ones((9, 9), np.uint8), (100,) * 3
    )
    part = turned(dark, np.random.default_rng(0), 0.0, (200.0, 150.0, 100.0))
    np.testing.assert_allclose(part.rgb[4, 4], (200, 150, 100))


def test_a_varied_ground_takes_matched_cells_with_it() -> None:
    cells = [cell(HEALTHY, str(i)) for i in range(60)]
    plain, varied = (
        make_field(cells, np.random.default_rng(5), 0.0, match=True, vary_ground=most)
        for most in (0.0, 0.4)
    )
    assert plain.ground == GROUND
    gain = np.array(varied.ground) / GROUND
    assert np.abs(gain - 1).max() <= 0.4
    assert np.ptp(gain) > 0.05  # another colour, not only darker
    inside = [field.rgb[field.classes == HEALTHY].mean(0) for field in (plain, varied)]
    np.testing.assert_allclose(inside[1] / inside[0], gain, rtol=0.02)
    empty = varied.rgb[varied.classes == 0].mean(0)
    np.testing.assert_allclose(empty, varied.ground, atol=4)


def test_every_field_has_a_ground_of_its_own_and_none_unless_asked_for(tmp_path: Path) -> None:
    cells = [cell(HEALTHY, str(i)) for i in range(4)]

    def grounds(most: float) -> set[tuple[float, float, float]]:
        rngs = (np.random.default_rng(seed) for seed in range(5))
        return {make_field(cells, rng, 0.0, True, most).ground for rng in rngs}

    assert len(grounds(0.3)) == 5
    assert grounds(0.0) == {GROUND}
    with pytest.raises(DataError, match="vary_ground=1"):
        synthesize_smears(library(), tmp_path / "out", SmearOptions(count=1, vary_ground=1.0))


def test_red_cells_of_a_field_keep_their_distance() -> None:
    cells = [cell(HEALTHY, str(i)) for i in range(150)]
    field = make_field(cells, np.random.default_rng(0), 0.8, match=True)
    assert field.classes.shape == (FIELD_PX, FIELD_PX)
    assert len(field.cells) > 120
    centres = np.array([item.centre_xy for item in field.cells], float)
    distances = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    np.fill_diagonal(distances, 1e9)
    assert distances.min() >= 44


def test_red_cells_are_cut_out_around_their_points(tmp_path: Path) -> None:
    image = np.full((160, 200, 3), 225, np.uint8)
    centres = [(40, 40), (100, 40), (150, 110), (60, 110)]
    for x, y in centres:
        cv2.circle(image, (x, y), 16, (190, 120, 140), -1)
        cv2.circle(image, (x, y), 5, (225, 215, 220), -1)  # the pale centre
    save(tmp_path / "train" / "images" / "f.png", image)
    (tmp_path / "train" / "points").mkdir()
    lines = [f"{x},{y},0" for x, y in centres[:3]] + ["195,5,0", "999,999,0"]
    (tmp_path / "train" / "points" / "f.csv").write_text("x,y,class\n" + "\n".join(lines) + "\n")
    red, platelets = cut_red_cells(tmp_path)
    assert len(red) == 3  # one point lies on glass, one outside, one cell has none
    assert platelets == []
    for item in red:
        assert 2 * np.sqrt(int(item.mask.sum()) / np.pi) == pytest.approx(50, abs=1.5)
        assert item.mask[item.mask.shape[0] // 2, item.mask.shape[1] // 2] == 1


def test_white_cells_carry_their_type(tmp_path: Path) -> None:
    mask = np.zeros((60, 60), np.uint8)
    cv2.circle(mask, (30, 30), 20, 255, -1)
    save(tmp_path / "images" / "a.png", np.full((60, 60, 3), 200, np.uint8))
    save(tmp_path / "masks" / "a.png", mask)
    (tmp_path / "cell_types.csv").write_text("stem,cell_type\na,eosinophil\n")
    (white,) = cut_white_cells(tmp_path)
    assert CLASSES[white.class_index].name == "eosinophil"
    (tmp_path / "cell_types.csv").write_text("stem,cell_type\na,erythroblast\n")
    with pytest.raises(DataError, match="of types eosinophil"):
        cut_white_cells(tmp_path)


def test_photographs_of_one_white_cell_are_one_group(tmp_path: Path) -> None:
    names, rng = ("a", "b", "c"), np.random.default_rng(0)
    mask = np.zeros((80, 80), np.uint8)
    cv2.circle(mask, (40, 40), 25, 255, -1)
    texture = {name: rng.integers(40, 200, (20, 20, 3)).astype(np.uint8) for name in names}
    texture["b"] = texture["a"][::-1]
    for name in names:
        large = cv2.resize(texture[name], (80, 80), interpolation=cv2.INTER_CUBIC)
        save(tmp_path / "images" / f"{name}.png", large)
        save(tmp_path / "masks" / f"{name}.png", mask)
    (tmp_path / "cell_types.csv").write_text("stem,cell_type\na,monocyte\nb,monocyte\nc,monocyte\n")
    assert [(item.name, item.group) for item in cut_white_cells(tmp_path)] == [
        ("a", "a"),
        ("b", "a"),
        ("c", "c"),
    ]


def test_own_cut_outs_are_read_from_folders_named_after_classes(tmp_path: Path) -> None:
    disc = cell(INFECTED, "x")
    save(tmp_path / "infected_red_cell" / "a.png", disc.rgb)
    save(tmp_path / "infected_red_cell" / "a_mask.png", disc.mask * 255)
    (found,) = cut_from_folders(tmp_path)
    assert (found.class_index, found.mask.sum()) == (INFECTED, disc.mask.sum())
    (tmp_path / "infected_red_cell" / "a_mask.png").unlink()
    with pytest.raises(DataError, match="A cut-out has a mask"):
        cut_from_folders(tmp_path)
    (tmp_path / "a kitten").mkdir()
    with pytest.raises(DataError, match="named after a class"):
        cut_from_folders(tmp_path)


def test_real_cells_are_cut_out(shared_data: Path) -> None:
    white = cut_white_cells(shared_data / "wbc_tecom")
    assert len(white) == 241
    neutrophils = [c.mask.sum() for c in white if CLASSES[c.class_index].name == "neutrophil"]
    assert 4000 < np.mean(neutrophils) < 6000  # the seed's had 4,879


def test_a_smear_without_cells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs red cells"):
        synthesize_smears([cell(1, "a")], tmp_path / "out")
    with pytest.raises(DataError, match="count=0"):
        synthesize_smears(library(), tmp_path / "out", SmearOptions(count=0))
    assert not (tmp_path / "out").exists()
    ran = CliRunner().invoke(app, ["data", "synthesize", "-o", str(tmp_path / "out")])
    assert ran.exit_code == 1
    assert "none of --white, --red, --cutouts" in ran.stderr
