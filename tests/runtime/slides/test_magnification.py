"""Objective and pixel size: a contradiction is said, and nothing else."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.runtime.slides.magnification import OBJECTIVE, objective_in, pixel_size_doubt
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import ArraySlide
from tests.bundles import make_bundle
from tests.slides import scene, write_svs


def doubt(objective: str, mpp: float | None, mpp_from: str = "Aperio MPP") -> str | None:
    slide = ArraySlide(np.zeros((4, 4), np.uint8), mpp, path="a.svs")
    slide.properties |= {OBJECTIVE: objective, "mpp from": mpp_from}
    return pixel_size_doubt(slide)


@pytest.mark.parametrize(
    ("objective", "mpp"),
    [("20", 0.499), ("40", 0.2525), ("40", 0.228), ("10", 1.0), ("20", 0.325), ("20", None),
     ("?", 0.23), ("0", 0.23)],
)  # fmt: skip
def test_what_goes_together_or_is_not_known_is_no_doubt(objective: str, mpp: float | None) -> None:
    assert doubt(objective, mpp) is None


@pytest.mark.parametrize(("objective", "mpp"), [("20", 0.23), ("40", 0.5), ("20", 1.0)])
def test_a_contradiction_names_both_and_the_way_out(objective: str, mpp: float) -> None:
    said = str(doubt(objective, mpp))
    assert f"objective={objective}x, mpp={mpp:g} (from Aperio MPP)" in said
    assert "--mpp" in said


def test_what_the_user_gave_is_not_doubted() -> None:
    assert doubt("20", 0.23, "given") is None


@pytest.mark.parametrize(
    ("text", "power"),
    [
        ("Aperio|AppMag = 40|MPP = 0.25", "40"),
        ("<name>openslide.objective-power</name>\n<value type='x'>20</value>", "20"),
        ('<OME><Objective ID="1" NominalMagnification="63.0"/></OME>', "63.0"),
        ("nothing", None),
    ],
)
def test_the_objective_is_found_where_vendors_put_it(text: str, power: str | None) -> None:
    assert objective_in(text) == power


def test_a_run_and_inspect_warn_of_a_20x_slide_at_a_quarter_of_a_micron(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", scene(), mpp="0.23", compression="zlib")
    told = CliRunner().invoke(app, ["inspect", str(path)]).output
    assert "objective=20x, mpp=0.23" in told
    model = make_bundle(tmp_path / "tiny.cellseg", mpp=0.25).path
    common = ["infer", str(path), "-o", str(tmp_path), "--model", str(model), "--write", "overlay"]
    common += ["--engine", "onnxruntime", "--precision", "fp32"]
    said = CliRunner().invoke(app, common)
    assert said.exit_code == 0
    assert "warning: " in said.stderr
    assert "objective=20x, mpp=0.23" in said.stderr
    assert "objective" not in CliRunner().invoke(app, [*common, "--mpp", "0.5", "--restart"]).stderr


@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_real_slides_are_not_doubted(shared_data: Path, name: str) -> None:
    with closing(open_slide(shared_data / "slides" / name)) as slide:
        assert pixel_size_doubt(slide) is None
