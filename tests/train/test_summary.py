"""What a summary says is what was counted by hand, and what the exporter bounds."""

from __future__ import annotations

import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")
pytest.importorskip("onnx", reason="needs the [export] extra")

from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from cellseg.cli import app  # noqa: E402
from cellseg.export.onnx_graph.reach import structural_reach  # noqa: E402
from cellseg.export.sources.translate import plain_graph  # noqa: E402
from cellseg.train.families import build_model, parse_params  # noqa: E402
from cellseg.train.families.summary import macs, measured_reach, summarize_family  # noqa: E402
from cellseg.train.networks.model import reach_of  # noqa: E402
from cellseg.train.sections import Recipe  # noqa: E402
from tests.train.small_families import CLASSES, SMALL, WITH_BACKBONE, small  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LIGHT = [name for name in SMALL if name not in WITH_BACKBONE]


@pytest.mark.parametrize("name", LIGHT)
def test_measured_reach_is_the_bound_of_the_exported_graph(name: str) -> None:
    model, stride = small(name), parse_params(name, SMALL[name]).stride
    count = CLASSES.get(name, 1)
    graph = plain_graph(model, range(count), count)
    bound = max(reach.radius_px for reach in structural_reach(graph))
    found = measured_reach(model, stride)
    assert found is not None
    assert bound - stride < found <= bound


@pytest.mark.parametrize("name", LIGHT)
def test_a_thinned_network_sees_as_far(name: str) -> None:
    params = parse_params(name, SMALL[name])
    thin = build_model(name, params.thinned(), CLASSES.get(name, 1))
    assert measured_reach(thin, params.stride) == measured_reach(small(name), params.stride)
    assert thin.count_params() < small(name).count_params()


def test_reach_does_not_depend_on_the_range_of_the_input() -> None:
    found = [
        measured_reach(build_model("unet", {"levels": 2, "input_range": name}), 2)
        for name in ("0..1", "-1..1", "0..255")
    ]
    assert found[0] is not None
    assert found == [found[0]] * 3


def test_measuring_leaves_the_weights_alone() -> None:
    model = small("attention-unet")
    before = model.get_weights()
    measured_reach(model, 4)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_multiply_adds_of_a_unet_are_counted_by_hand() -> None:
    model = build_model("unet", {"base_filters": 2, "levels": 2})
    # down0 at 1, down1 at 1/4, up0 at 1/4 (2x2 each), dec0 at 1, head
    expected = 9 * (3 * 2 + 2 * 2) + 9 * (2 * 4 + 4 * 4) / 4 + 4 * 4 * 2 / 4 + 9 * (4 * 2 + 4) + 2
    assert macs(model, 32, 64) == expected * 32 * 64


def test_multiply_adds_of_window_attention_are_counted_by_hand() -> None:
    params = {"base_filters": 4, "levels": 1, "blocks": 1, "patch_px": 1, "heads": (2,)}
    model = build_model("swin-unet", params | {"windows": (2,), "mlp_filters": 3})
    attention = 4 * 4 * 4 + 2 * 4 * 4  # q, k, v and out; scores and values over 4 pixels
    expected = 3 * 4 + attention + 2 * 4 * 3 + 4 * 4 + 4  # patch, attention, mlp, expand, head
    assert macs(model, 8, 8) == expected * 64


def test_summary_says_what_stands_against_exact_tiles() -> None:
    params = {"levels": 2, "base_filters": 2, "normalization": "instance"}
    found = summarize_family("unet", params)
    assert not found.tiles_exactly
    assert found.receptive_field_px is None
    assert found.why_not == "down0a_norm and 5 more looks at the whole tile"
    assert "tiles       not exactly: down0a_norm" in "\n".join(found.lines())


def test_summary_of_an_exact_network_is_complete() -> None:
    found = summarize_family("unet", {"levels": 2, "base_filters": 2})
    assert (found.tiles_exactly, found.why_not, found.stride_px) == (True, None, 2)
    assert found.as_dict()["receptive_field_px"] == found.receptive_field_px
    assert found.parameters == build_model("unet", {"levels": 2, "base_filters": 2}).count_params()


def test_a_halo_is_the_reach_in_whole_strides() -> None:
    found = summarize_family("unet", {"levels": 3, "base_filters": 2})
    assert found.halo_px == -(-found.receptive_field_px // 4) * 4
    assert found.as_dict()["halo_px"] == found.halo_px
    assert f"halo        {found.halo_px} px" in found.lines()


def test_gamma_and_colour_space_leave_the_reach_as_it_is() -> None:
    plain = reach_of(small_recipe())
    assert plain == 2  # two convolutions of 3 px
    assert reach_of(small_recipe(color="lab", gamma=0.5)) == plain
    assert reach_of(small_recipe(sharpen=0.5)) == plain + 1


def test_recipe_check_sums_the_network_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[model]\nlevels = 2\n[[sources]]\nname = "a"\npath = "a"\n')
    answer = CliRunner().invoke(app, ["recipe", "check", str(path)])
    assert answer.exit_code == 0, answer.output
    for word in ("parameters", "GMAC per megapixel", "halo", "tiles       exactly"):
        assert word in answer.stdout
    monkeypatch.setattr("cellseg.commands.recipe.find_spec", lambda name: None)
    answer = CliRunner().invoke(app, ["recipe", "check", str(path)])
    assert answer.exit_code == 0
    assert "Keras is not installed (pip install 'cellseg[train]')" in answer.stdout


def small_recipe(**values: object) -> Recipe:
    tree = {"name": "small", "sources": [{"name": "a", "path": "a"}], "input": values}
    return Recipe.model_validate(
        tree | {"model": {"family": "unet", "levels": 1, "base_filters": 2}}
    )
