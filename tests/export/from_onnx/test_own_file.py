"""A user's own ONNX file becomes a bundle, or is refused by the name of what stands in the way."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.errors import ExportError
from cellseg.export.export import ExportOptions, export_run
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines import open_engine
from tests.export.graphs import noise
from tests.export.networks import ignore_keras_warnings, unet

CLASSES = ("background", "cell")


def own_model(
    planar: bool = True,
    dtype: int = TensorProto.FLOAT,
    hw: tuple[Any, Any] = ("H", "W"),
    ending: str | None = None,
    channels: int = 2,
    opset: int = 17,
    extra: Any = (),
    replaced: dict[str, Any] | None = None,
) -> onnx.ModelProto:
    """Make a network as another framework writes it: two levels, unnamed nodes, a skip."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.3, (6, 3, 3, 3)), "b1": rng.normal(0, 0.1, 6),
        "w2": rng.normal(0, 0.2, (8, 6, 3, 3)), "w3": rng.normal(0, 0.3, (8, 6, 2, 2)),
        "w4": rng.normal(0, 0.5, (channels, 12, 1, 1)), "b4": rng.normal(0, 0.1, channels),
    }  # fmt: skip
    node = helper.make_node
    first = "image" if planar else "planes"
    lead = [] if planar else [node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2])]
    if dtype == TensorProto.UINT8:
        lead += [node("Cast", [first], ["floats"], to=TensorProto.FLOAT)]
        first = "floats"
    nodes = {
        "conv": node("Conv", [first, "w1", "b1"], ["x1"], pads=[1, 1, 1, 1]),
        "relu": node("Relu", ["x1"], ["x2"]),
        "down": node("Conv", ["x2", "w2"], ["x3"], strides=[2, 2], auto_pad="SAME_UPPER"),
        "up": node("ConvTranspose", ["x3", "w3"], ["x4"], strides=[2, 2]),
        "skip": node("Concat", ["x4", "x2"], ["x5"], axis=1),
        "head": node("Conv", ["x5", "w4", "b4"], ["x6"]),
    } | (replaced or {})
    value, tail = "x6", []
    if ending is not None:
        axis = {"axis": 1} if ending == "Softmax" else {}
        tail, value = [node(ending, [value], ["x7"], **axis)], "x7"
    if not planar:
        tail, value = [*tail, node("Transpose", [value], ["x8"], perm=[0, 2, 3, 1])], "x8"
    shape = ["N", 3, *hw] if planar else ["N", *hw, 3]
    image = helper.make_tensor_value_info("image", dtype, shape)
    result = helper.make_tensor_value_info(value, TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [*lead, *nodes.values(), *tail], "own", [image, *extra], [result],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def written(model: onnx.ModelProto, folder: Path) -> ExportOptions:
    path = folder / "My Model.onnx"
    path.write_bytes(model.SerializeToString())
    return ExportOptions(
        path, folder / "own.cellseg", precisions=("fp32",), classes=CLASSES, mpp=0.5, threads=1
    )


def probabilities(model: onnx.ModelProto, image: np.ndarray[Any, Any], planar: bool = True) -> Any:
    """Run the model by itself, fed 0..1; logits become a softmax."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = image[np.newaxis].astype(np.float32) * np.float32(1 / 255)
    (found,) = session.run(None, {"image": fed.transpose(0, 3, 1, 2) if planar else fed})
    found = found[0].transpose(1, 2, 0) if planar else found[0]
    if model.graph.node[-1].op_type in ("Conv", "Transpose"):
        found = np.exp(found) / np.exp(found).sum(-1, keepdims=True)
    return found


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"ending": "Softmax"},
        {"hw": (64, 48)},
        {"planar": False},
        {"opset": 13},
    ],
    ids=str,
)
def test_bundle_computes_what_the_file_computes(form: dict[str, Any], tmp_path: Path) -> None:
    model = own_model(**form)
    report = export_run(written(model, tmp_path))
    bundle = Bundle.open(tmp_path / "own.cellseg")
    (image,) = noise(1, 64, 48)
    engine = open_engine(bundle, "onnxruntime", "fp32", (64, 48), threads=1)
    expected = probabilities(model, image, form.get("planar", True))
    np.testing.assert_allclose(engine.infer(image), expected, atol=1e-5)
    assert report.parity.max_difference < 1e-4
    manifest = bundle.manifest
    assert (manifest.name, manifest.mpp, manifest.stride) == ("my-model", 0.5, 2)
    assert [item.name for item in manifest.classes] == list(CLASSES)
    assert manifest.head.kind == "softmax"


def test_one_channel_is_the_foreground(tmp_path: Path) -> None:
    export_run(written(own_model(channels=1, ending="Sigmoid"), tmp_path))
    manifest = Bundle.open(tmp_path / "own.cellseg").manifest
    assert manifest.head.kind == "sigmoid"
    assert [(item.name, item.class_index) for item in manifest.channels] == [("cell", 1)]


def test_bytes_stay_bytes(tmp_path: Path) -> None:
    report = export_run(written(own_model(dtype=TensorProto.UINT8), tmp_path))
    assert report.parity.max_difference < 1e-4


def test_scale_and_offset_are_those_that_were_named(tmp_path: Path) -> None:
    options = replace(
        written(own_model(), tmp_path), input_scale=(1 / 127.5,), input_offset=(-1.0,)
    )
    assert export_run(options).parity.max_difference < 1e-4


def test_each_colour_has_its_scale_and_offset(tmp_path: Path) -> None:
    model = own_model(ending="Softmax")
    scale, offset = (0.02, 0.01, 0.03), (-2.0, 0.5, 1.0)
    export_run(replace(written(model, tmp_path), input_scale=scale, input_offset=offset))
    (image,) = noise(1, 64, 48)
    bundle = Bundle.open(tmp_path / "own.cellseg")
    found = open_engine(bundle, "onnxruntime", "fp32", (64, 48), threads=1).infer(image)
    fed = (image * np.array(scale) + np.array(offset)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": fed.transpose(2, 0, 1)[np.newaxis]})
    np.testing.assert_allclose(found, expected[0].transpose(1, 2, 0), atol=1e-5)


def test_a_range_that_nobody_named_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = written(own_model(), tmp_path)
    with caplog.at_level(logging.WARNING, "cellseg"):
        export_run(options)
        assert "gets bytes as 0 .. 1; if it was trained on other values" in caplog.text
        caplog.clear()
        export_run(replace(options, input_scale=(1.0,)))
        assert "trained on other values" not in caplog.text


@pytest.mark.parametrize("planar", [True, False], ids=["NCHW", "NHWC"])
def test_a_network_trained_on_bgr_takes_rgb(tmp_path: Path, planar: bool) -> None:
    model = own_model(planar=planar)
    report = export_run(replace(written(model, tmp_path), channel_order="bgr"))
    assert report.parity.max_difference < 1e-4
    bundle = Bundle.open(tmp_path / "own.cellseg")
    (image,) = noise(1, 64, 48)
    found = open_engine(bundle, "onnxruntime", "fp32", (64, 48), threads=1).infer(image)
    expected = probabilities(model, image[..., ::-1], planar)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - probabilities(model, image, planar)).max() > 1e-3  # it matters
    operators = {
        node.op_type
        for node in onnx.load_from_string(bundle.read_variant("model.fp32.onnx")).graph.node
    }
    assert "Gather" not in operators


def test_a_channel_order_is_rgb_or_bgr(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="channel_order must be one of"):
        export_run(replace(written(own_model(), tmp_path), channel_order="brg"))


@pytest.mark.parametrize(
    ("scale", "offset"), [((1.0, 2.0), (0.0,)), ((0.0,), (0.0,)), ((1.0,), (float("nan"),))]
)
def test_a_range_that_is_none_is_refused(
    scale: tuple[float, ...], offset: tuple[float, ...], tmp_path: Path
) -> None:
    options = replace(written(own_model(), tmp_path), input_scale=scale, input_offset=offset)
    with pytest.raises(ExportError, match="input_(scale|offset) must"):
        export_run(options)


@pytest.mark.parametrize("bytes_first", [True, False])
def test_an_image_in_nhwc_may_be_scaled_before_it_is_turned(
    bytes_first: bool, tmp_path: Path
) -> None:
    model = own_model(planar=False)
    lead = [helper.make_node("Mul", ["cast" if bytes_first else "image", "by"], ["scaled"])]
    if bytes_first:
        lead.insert(0, helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT))
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node[0].input[0] = "scaled"
    for place, node in enumerate(lead):
        model.graph.node.insert(place, node)
    by = numpy_helper.from_array(np.array([0.01, 0.02, 0.03], np.float32), "by")
    model.graph.initializer.append(by)
    assert export_run(written(model, tmp_path)).parity.max_difference < 1e-4


def test_whole_tile_layers_may_be_allowed(tmp_path: Path) -> None:
    norm = helper.make_node("GlobalAveragePool", ["x1"], ["mean"], "mean")
    model = own_model(replaced={"relu": helper.make_node("Sub", ["x1", "mean"], ["x2"])})
    model.graph.node.insert(1, norm)
    options = written(model, tmp_path)
    with pytest.raises(ExportError, match="seams") as caught:
        export_run(options)
    assert "--halo-tolerance" in (caught.value.hint or "")
    export_run(replace(options, halo_tolerance=0.9))
    assert Bundle.open(options.output).manifest.halo_tolerance == 0.9


def input_named(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, "H", "W"])


REFUSED = {
    "two images": (
        {"extra": [input_named("second")]}, r"one image\. Received: 2, 'image', 'second'",
    ),
    "operator": (
        {"replaced": {"relu": helper.make_node("Atan", ["x1"], ["x2"], "odd")}},
        r"reach of every operator must be known. Received: 'odd' \(Atan\)",
    ),
    "custom operator": (
        {"replaced": {"relu": helper.make_node("My", ["x1"], ["x2"], "odd", domain="mine")}},
        r"ONNX's own. Received: 'odd' \(mine.My\)",
    ),
    "whole tile": (
        {"replaced": {"relu": helper.make_node(
            "InstanceNormalization", ["x1", "b1", "b1"], ["x2"], "norm")}},
        r"seams that no halo mends. Received: 'norm' \(InstanceNormalization\)",
    ),
    "smaller map": (
        {"replaced": {"head": helper.make_node("Conv", ["x5", "w4"], ["x6"], strides=[2, 2])}},
        "as large as the image",
    ),
    "padding above first": (
        {"replaced": {"down": helper.make_node(
            "Conv", ["x2", "w2"], ["x3"], "odd", strides=[2, 2], auto_pad="SAME_LOWER")}},
        r"one of NOTSET, VALID, SAME_UPPER. Received: 'odd' \(Conv\) with SAME_LOWER",
    ),
    "wrong class count": ({"channels": 4}, r"class a channel.*Received: 2 classes.*4 channels"),
    "double": ({"dtype": TensorProto.DOUBLE}, "float32 or uint8. Received: 'image' of type DOUBLE"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_model_that_cannot_be_adapted_is_refused_by_name(name: str, tmp_path: Path) -> None:
    form, message = REFUSED[name]
    model = own_model(**form)
    if name == "custom operator":
        model.opset_import.append(helper.make_opsetid("mine", 1))
    with pytest.raises(ExportError, match=message):
        export_run(written(model, tmp_path))
    assert not (tmp_path / "own.cellseg").exists()


def test_a_batch_of_a_fixed_size_is_refused(tmp_path: Path) -> None:
    model = own_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    with pytest.raises(ExportError, match="one image, or any number. Received: 4"):
        export_run(written(model, tmp_path))


def test_a_height_that_is_fixed_beside_a_free_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="images of any size"):
        export_run(written(own_model(hw=(48, "W")), tmp_path))


def test_size_that_is_fixed_inside_is_refused(tmp_path: Path) -> None:
    model = own_model(
        hw=(64, 64), replaced={"relu": helper.make_node("Add", ["x1", "fix"], ["x2"])}
    )
    fixed = numpy_helper.from_array(np.ones((1, 6, 64, 64), np.float32), "fix")
    model.graph.initializer.append(fixed)
    with pytest.raises(ExportError, match="images of any size") as caught:
        export_run(written(model, tmp_path))
    assert "dynamic axes" in (caught.value.hint or "")


def test_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    options = written(own_model(), tmp_path)
    options.run.write_bytes(b"no model")
    with pytest.raises(ExportError, match="must be an ONNX file"):
        export_run(options)


def test_classes_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not say what its classes are"):
        export_run(replace(written(own_model(), tmp_path), classes=()))


@ignore_keras_warnings
def test_lone_keras_file_needs_only_its_classes(tmp_path: Path) -> None:
    unet().save(tmp_path / "mine.keras")
    options = ExportOptions(
        tmp_path / "mine.keras", tmp_path / "mine.cellseg", precisions=("fp32",),
        classes=("background", "a", "b"), threads=1,
    )  # fmt: skip
    export_run(options)
    manifest = Bundle.open(tmp_path / "mine.cellseg").manifest
    assert (manifest.name, manifest.stride, manifest.mpp) == ("mine", 4, None)
    assert export_run(replace(options, channel_order="bgr")).parity.max_difference < 1e-4
    with pytest.raises(ExportError, match="5 classes"):
        export_run(replace(options, classes=("background", "a", "b", "c", "d")))


@pytest.mark.parametrize(("source", "ended"), [("My Model.onnx", 0), ("best.keras", 1)])
def test_an_onnx_file_needs_no_keras_and_a_keras_file_says_so(
    tmp_path: Path, source: str, ended: int
) -> None:
    written(own_model(), tmp_path)
    if ended:
        (tmp_path / source).write_bytes(b"a network")
    words = ["export", str(tmp_path / source), "-o", str(tmp_path / "x.cellseg")]
    words += ["--precision", "fp32", "--classes", "background,cell", "--mpp", "0.5"]
    without = "import sys; sys.modules.update(keras=None, tensorflow=None)"
    code = f"{without}; from cellseg.cli import main; sys.argv[1:] = {words!r}; main()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == ended, ran.stderr
    assert ("pip install 'cellseg[train]'" in ran.stderr) == bool(ended)


def test_command_line_passes_everything_on(tmp_path: Path) -> None:
    options = written(own_model(channels=1), tmp_path)
    words = ["export", str(options.run), "-o", str(options.output), "--precision", "fp32"]
    words += ["--classes", "background,cell", "--mpp", "0.25", "--input-scale", "0.0078125"]
    result = CliRunner().invoke(app, [*words, "--input-offset", "-1"])
    assert result.exit_code == 0, result.output
    manifest = Bundle.open(options.output).manifest
    assert (manifest.mpp, manifest.head.kind) == (0.25, "sigmoid")
    assert [item.name for item in manifest.classes] == list(CLASSES)


def test_every_class_has_a_colour_of_its_own(tmp_path: Path) -> None:
    names = ("background", *(f"class {n}" for n in range(1, 12)))
    options = replace(written(own_model(channels=12), tmp_path), classes=names)
    colours = [item.color for item in export_run(options).bundle.manifest.classes]
    assert len(set(colours)) == 12
    assert colours[0] == (0, 0, 0)
