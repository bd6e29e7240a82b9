"""Regions, annotations, archives and splits that are wrong, as a user meets them.

One line says what is wrong and where, another how to mend it; the exit code is 1 and nothing is
left behind. What is wrong in a slide itself is in ``tests/runtime/slides/test_bad_input.py``.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from cellseg.cli import app
from tests.data.made import save, write_source
from tests.fakes import fake_bundle, nuclei_picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result


def check_refused(ran: Result, message: str, hint: str) -> None:
    """Assert that a command ended with one line that says what, and one that says what to do."""
    assert ran.exit_code == 1, ran.output
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert hint in ran.stderr.partition("hint: ")[2]
    assert "Traceback" not in ran.output


# --- regions of interest ---


def polygon(*ring: tuple[float, float]) -> str:
    return json.dumps({"type": "Polygon", "coordinates": [list(ring)]})


REGIONS = {
    "none there": (None, "cannot be read: No such file or directory", "Check its path"),
    "not GeoJSON": ("{", "must be GeoJSON", "QuPath"),
    "a table": ("x,y\n1,2\n", "must be GeoJSON", "QuPath"),
    "points": ('{"type": "Point", "coordinates": [5, 5]}', "must hold a polygon", "draw areas"),
    "two corners": (polygon((1, 1), (9, 9), (1, 1)), "at least 3 points", "QuPath"),
    "not numbers": ('{"type": "Polygon", "coordinates": [["a", "b"]]}', "a list of [x, y]", ""),
    "beside the slide": (polygon((900, 9), (950, 9), (950, 60)), "x=900..950", "another slide"),
    "parts of its sides": (polygon((0.1, 0.1), (0.9, 0.1), (0.9, 0.9)), "a pixel", "millimetres"),
}


@pytest.mark.parametrize("name", REGIONS)
def test_regions_that_are_none_are_refused_before_a_tile_is_run(tmp_path: Path, name: str) -> None:
    text, message, hint = REGIONS[name]
    slide, regions, out = tmp_path / "a.tif", tmp_path / "r.geojson", tmp_path / "out"
    tifffile.imwrite(slide, nuclei_picture(90, 120), photometric="rgb")
    if text is not None:
        regions.write_text(text, encoding="utf-8")
    model = fake_bundle(tmp_path / "fake.cellseg").path
    command = ["infer", str(slide), "--roi", str(regions), "-o", str(out), "--model", str(model)]
    ran = CliRunner().invoke(app, command)
    check_refused(ran, message, hint)
    assert str(regions) in ran.stderr
    assert not out.exists() or not any(out.iterdir())


# --- annotations and archives ---


def without_a_mask(folder: Path) -> Path:
    (write_source(folder / "in") / "masks" / "1.png").unlink()
    return folder / "in"


def without_an_image(folder: Path) -> Path:
    (write_source(folder / "in") / "images" / "1.png").unlink()
    return folder / "in"


def another_size(folder: Path) -> Path:
    save(write_source(folder / "in") / "masks" / "2.png", np.zeros((9, 9), np.uint8))
    return folder / "in"


def two_palettes(folder: Path) -> Path:
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[5:20, 5:20], mask[30:40, 30:40] = (255, 0, 0), (255, 255, 0)
    save(write_source(folder / "in", mask="palette") / "masks" / "2.png", mask)
    return folder / "in"


def escaping(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "in.zip", "w") as archive:
        archive.writestr("images/a.png", b"x")
        archive.writestr("../evil.png", b"x")
    return folder / "in.zip"


def bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/a.png", bytes(80 << 20))
    return folder / "in.zip"


ANNOTATIONS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "an image without a mask": (without_a_mask, "without a mask (1)", "Name them alike"),
    "a mask without an image": (without_an_image, "without an image (1)", "Name them alike"),
    "a mask of another size": (another_size, "2.png with 9 x 9", ""),
    "two palettes": (two_palettes, "share one palette", "Import the two sets apart"),
    "a path that escapes": (escaping, "'../evil.png'", "Do not trust"),
    "a zip bomb": (bomb, "zip bomb", "unpack it yourself"),
}


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_annotations_that_do_not_fit_are_refused_and_nothing_is_written(
    tmp_path: Path, name: str
) -> None:
    make, message, hint = ANNOTATIONS[name]
    source = make(tmp_path)
    out = tmp_path / "deep" / "set"
    check_refused(
        CliRunner().invoke(app, ["data", "import", str(source), "-o", str(out)]), message, hint
    )
    assert not out.exists()
    assert not list(tmp_path.rglob("evil.png"))


# --- splits ---


def split(folder: Path, source: Path, *rows: str) -> Result:
    """Import a source and divide it as a table says."""
    table = folder / "groups.csv"
    table.write_text("\n".join(("stem,group,split", *rows)), encoding="utf-8")
    command: list[Any] = ["data", "import", source, "-o", folder / "set"]
    assert CliRunner().invoke(app, [str(each) for each in command]).exit_code == 0
    command = ["data", "split", folder / "set", "-o", folder / "out", "--group-csv", table]
    return CliRunner().invoke(app, [str(each) for each in command])


def test_a_group_in_two_splits_is_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path / "in", mask="index")
    ran = split(tmp_path, source, "0,a,train", "1,a,test", "2,c,valid")
    check_refused(ran, "group 'a' in test and train", "")
    assert not (tmp_path / "out").exists()


def test_a_split_that_leaves_a_class_out_of_train_is_made_and_said(tmp_path: Path) -> None:
    source = write_source(tmp_path / "in", mask="index")
    for name in ("0", "1"):
        mask = np.zeros((64, 64), np.uint8)
        mask[5:20, 5:20] = 1
        save(source / "masks" / f"{name}.png", mask)
    ran = split(tmp_path, source, "0,a,train", "1,b,valid", "2,c,test")
    assert ran.exit_code == 0, ran.output
    assert "is not in train: it cannot be learned" in ran.output
