"""Real TensorRT engines, built without a GPU: what is int8, and what cannot be built."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.errors import EngineError, ExportError
from cellseg.export.passes import run_pass
from cellseg.export.passes.cast_first import CastFirst
from cellseg.export.precisions.float16 import to_float16
from cellseg.export.precisions.ranges import collect_distributions
from cellseg.export.precisions.s8s8 import quantize_s8s8
from cellseg.export.sources.translate import float_graph
from cellseg.export.targets.tensorrt import build_engines, int8_convolutions
from cellseg.runtime.bundles.bundle import Bundle, shipped_models, write_bundle
from cellseg.runtime.engines.tensorrt_api import TensorRt, find_tensorrt
from tests.bundles import make_manifest, variant_fields
from tests.export.drawn_images import draw_discs
from tests.export.networks import ignore_keras_warnings, unet

tensorrt_rtx = pytest.importorskip("tensorrt_rtx")
pytestmark = [pytest.mark.tensorrt, ignore_keras_warnings]
HW = (64, 64)
CAPABILITIES = ("8.6", "8.9", "12.0")


@cache
def network(up: str = "transpose") -> tuple[onnx.ModelProto, onnx.ModelProto]:
    tiles = [draw_discs(seed, HW)[0] for seed in range(2)]
    model = float_graph(unet(base=8, up=up), range(3), 3)
    return model, quantize_s8s8(model, collect_distributions(model, tiles), "minmax")


@pytest.fixture(scope="module")
def rtx() -> TensorRt:
    return find_tensorrt("tensorrt_rtx")


def make_bundle(path: Path) -> Bundle:
    model, int8 = (item.SerializeToString() for item in network())
    variants = [
        variant_fields(model),
        variant_fields(int8, file="model.int8.s8s8.onnx", precision="int8", scheme="s8s8"),
    ]
    channels = [{"name": str(i), "class_index": min(i, 1)} for i in range(3)]
    manifest = make_manifest(*variants, channels=channels)
    return write_bundle(path, manifest, {"model.fp32.onnx": model, "model.int8.s8s8.onnx": int8})


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("up", ["transpose", "nearest"])
def test_every_quantized_convolution_is_computed_in_int8_and_nothing_is_reformatted(
    rtx: TensorRt, up: str, capability: str
) -> None:
    int8 = network(up)[1].SerializeToString()
    report = rtx.build(int8, HW, capability).report
    assert report is not None
    meant = int8_convolutions(int8)
    assert len(meant) > 5
    assert set(report.int8) == meant
    assert report.reformats == ()


def test_float_network_has_no_int8(rtx: TensorRt) -> None:
    model = run_pass(CastFirst(), network()[0]).model
    report = rtx.build(model.SerializeToString(), HW, "8.6").report
    assert report is not None
    assert report.int8 == ()
    assert set(report.convolutions.values()) == {"fp32"}


def test_float16_network_is_float16_throughout(rtx: TensorRt) -> None:
    model = network()[0]
    tiles = [draw_discs(0, HW)[0]]
    half, _ = to_float16(model, collect_distributions(model, tiles))
    report = rtx.build(half.SerializeToString(), HW, "8.6").report
    assert report is not None
    assert set(report.convolutions.values()) == {"fp16"}
    assert report.reformats == ()


def test_pooling_and_skip_connections_stay_in_bytes(rtx: TensorRt) -> None:
    report = rtx.build(network()[1].SerializeToString(), HW, "8.9").report
    assert report is not None
    pools = [layer for layer in report.layers if layer.kind == "maxpool"]
    assert pools
    assert all(layer.inputs == layer.outputs == ("int8",) for layer in pools)
    names = [n.name for n in network()[0].graph.node if n.op_type == "Concat"]
    joined = [layer for layer in report.layers if set(names).intersection(layer.onnx)]
    assert joined
    assert all(layer.outputs == ("int8",) for layer in joined)


def test_turing_computes_int8_in_floating_point(rtx: TensorRt) -> None:
    """A limit of TensorRT for RTX: if this fails, the hint in doctor can go."""
    report = rtx.build(network()[1].SerializeToString(), HW, "7.5").report
    assert report is not None
    assert report.int8 == ()


def test_image_transposed_as_bytes_is_refused_in_tensorrts_words(rtx: TensorRt) -> None:
    with pytest.raises(EngineError, match="must be able to parse the model.*type UInt8"):
        rtx.build(network()[0].SerializeToString(), HW, "8.6")


def test_bytes_that_are_no_model_are_refused(rtx: TensorRt) -> None:
    with pytest.raises(EngineError, match="must be able to parse"):
        rtx.build(b"\x08\x07 nonsense", HW, "8.6")


def test_capability_it_does_not_know_is_refused_by_name(rtx: TensorRt) -> None:
    with pytest.raises(EngineError, match=r"8\.6, 8\.9, 12\.0.*Received: 9\.0"):
        rtx.build(network()[1].SerializeToString(), HW, "9.0")


def test_bundle_becomes_engines_and_a_report(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny.cellseg")
    engines = build_engines(bundle, CAPABILITIES, 64, tmp_path / "engines")
    names = [f"tiny.int8.sm{number}.engine" for number in ("86", "89", "120")]
    assert [engine.path.name for engine in engines] == names
    report = json.loads((tmp_path / "engines" / "tiny.tensorrt.json").read_text())
    assert report["bundle_sha256"] == bundle.sha256
    assert [item["file"] for item in report["engines"]] == names
    assert all(item["int8_lost"] == item["reformats"] == [] for item in report["engines"])
    assert all(engine.path.stat().st_size > 10_000 for engine in engines)


def test_engines_are_built_from_the_command_line(tmp_path: Path) -> None:
    make_bundle(tmp_path / "tiny.cellseg")
    result = CliRunner().invoke(
        app,
        ["export", str(tmp_path / "tiny.cellseg"), "-o", str(tmp_path / "out"),
         "--compute-capability", "8.6", "--engine-tile", "64"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "convolutions in int8" in result.output
    assert (tmp_path / "out" / "tiny.int8.sm86.engine").is_file()


@pytest.mark.parametrize(
    ("capabilities", "tile_px", "message"),
    [((), 64, "compute capabilities. Received: none"), (("8.6",), 66, "multiple of the model's")],
)
def test_request_that_does_not_fit_is_refused(
    tmp_path: Path, capabilities: tuple[str, ...], tile_px: int, message: str
) -> None:
    bundle = make_bundle(tmp_path / "tiny.cellseg")
    with pytest.raises(ExportError, match=message):
        build_engines(bundle, capabilities, tile_px, tmp_path)
    assert not [*tmp_path.glob("*.engine")]


def test_bundle_without_a_file_for_tensorrt_is_refused(tmp_path: Path) -> None:
    from tests.bundles import make_bundle as make_fp32_bundle

    with pytest.raises(ExportError, match="must hold fp16 or S8S8 ONNX"):
        build_engines(make_fp32_bundle(tmp_path / "b.cellseg"), ("8.6",), 64, tmp_path)


@pytest.mark.parametrize("name", shipped_models())
def test_every_shipped_model_builds_and_computes_what_it_should_in_int8(
    name: str, tmp_path: Path
) -> None:
    bundle = Bundle.open(name)
    if all(variant.scheme != "s8s8" for variant in bundle.variants):
        pytest.skip(f"{name} holds no file for TensorRT")
    for engine in build_engines(bundle, CAPABILITIES, 512, tmp_path):
        assert engine.lost == ()
        assert engine.report.reformats == ()
        if engine.precision == "int8":
            assert engine.report.int8
