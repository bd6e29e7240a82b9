"""Noise of int8 by layer, and the report that shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cellseg.export.judging.int8 import SCHEMES, GivenBack, Int8Choice
from cellseg.export.judging.sqnr_report import report_html, report_path, write_report
from cellseg.export.onnx_graph.graph import Graph
from cellseg.export.onnx_graph.tensors import literal_session, run_tensors
from cellseg.export.precisions.ranges import collect_distributions
from cellseg.export.precisions.sqnr import LayerNoise, measure_noise, worst_first
from tests.export.graphs import Sketch, noise

TILES = [*noise(2, 16, 16)]


def network() -> onnx.ModelProto:
    return (
        Sketch()
        .by_constant("Mul", 1 / 255)
        .conv(8)
        .node("Relu")
        .conv(8)
        .node("Relu")
        .conv(2)
        .model()
    )


def quantized(scheme: str, floats: tuple[str, ...] = ()) -> onnx.ModelProto:
    model = network()
    return SCHEMES[scheme](model, collect_distributions(model, TILES), "minmax", floats)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_convolution_is_measured_the_last_one_too(scheme: str) -> None:
    model = network()
    found = {item.layer: item for item in measure_noise(model, quantized(scheme), TILES)}
    convolutions = [node.name for node in Graph(model).of_type("Conv")]
    assert set(found) == set(convolutions)
    assert found[convolutions[-1]].alone_db is not None
    assert all(20 < item.through_db <= 99 for item in found.values())


def test_first_layer_is_measured_though_the_image_is_transposed_behind_its_bytes() -> None:
    model = Sketch().conv(8).node("Relu").conv(2).model()
    file = SCHEMES["u8s8"](model, collect_distributions(model, TILES), "minmax", ())
    assert all(item.alone_db is not None for item in measure_noise(model, file, TILES))


def test_noise_of_a_layer_alone_is_that_of_its_input_and_weights() -> None:
    """Against the definition: quantize by hand, convolve, compare."""
    model = network()
    file = quantized("s8s8")
    graph, there = Graph(model), Graph(file)
    second = [node.name for node in graph.of_type("Conv")][1]
    node = next(n for n in graph.nodes if n.name == second)
    twin = next(n for n in there.nodes if n.name == second)
    reader, weights = (there.producer(name) for name in twin.input[:2])
    assert reader is not None
    assert weights is not None
    scale = there.constant(reader.input[1])
    steps, sizes = (there.constant(name) for name in weights.input[:2])
    assert scale is not None
    assert steps is not None
    assert sizes is not None
    rough = np.asarray(steps * sizes.reshape(-1, 1, 1, 1), np.float32)
    signal = noisy = 0.0
    for tensors in run_tensors(model, [node.input[0], node.output[0]], TILES):
        values, clean = (tensors[name] for name in (node.input[0], node.output[0]))
        near = np.clip(np.rint(values / scale), -128, 127) * scale
        difference = _convolved(model, node, near.astype(np.float32), rough) - clean
        signal += float((clean**2).sum())
        noisy += float((difference**2).sum())
    found = {item.layer: item.alone_db for item in measure_noise(model, file, TILES)}
    assert found[second] == pytest.approx(10 * np.log10(signal / noisy), abs=0.02)


def _convolved(
    model: onnx.ModelProto, node: onnx.NodeProto, values: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    kept = [i for i in model.graph.initializer if i.name in node.input and i.name != node.input[1]]
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [onnx.helper.make_tensor_value_info(node.input[0], 1, list(values.shape))],
        [onnx.helper.make_tensor_value_info(node.output[0], 1, None)],
        [*kept, numpy_helper.from_array(weights, node.input[1])],
    )
    single = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    (result,) = literal_session(single.SerializeToString()).run(None, {node.input[0]: values})
    return np.asarray(result)


def test_worst_come_first_and_float_layers_last() -> None:
    first = next(iter(Graph(network()).of_type("Conv"))).name
    items = measure_noise(network(), quantized("s8s8", (first,)), TILES)
    levels = [item.alone_db for item in items if item.alone_db is not None]
    assert levels == sorted(levels)
    assert items[-1].alone_db is None
    assert worst_first(items) == [item.layer for item in items[:-1]]


def test_layer_given_back_makes_no_noise_of_its_own() -> None:
    model = network()
    first = next(iter(Graph(model).of_type("Conv"))).name
    found = {item.layer: item for item in measure_noise(model, quantized("s8s8", (first,)), TILES)}
    assert found[first].alone_db is None
    assert found[first].through_db > 90


def test_report_is_one_file_that_names_everything(tmp_path: Path) -> None:
    noise_of = (
        LayerNoise("stem <conv>", 648, 12.5, 12.25),
        LayerNoise("head", 20, None, 30.0),
    )
    choice = Int8Choice(
        b"x" * 1000, "entropy", {"minmax": 0.91, "entropy": 0.95}, "discs", "s8s8",
        (GivenBack("down1", 0.97),), noise_of,
    )  # fmt: skip
    path = write_report(tmp_path / "a.cellseg", "tiny 1", [choice], 0.99)
    text = path.read_text()
    assert path == report_path(tmp_path / "a.cellseg") == tmp_path / "a.report.html"
    for words in ("tiny 1", "s8s8", "entropy (chosen)", "down1", "97.00%", "12.5 dB", "discs"):
        assert words in text
    assert "stem &lt;conv&gt;" in text
    assert text.index("stem") < text.index("head</td>")
    for outside in ("http://", "https://", "<script", "<link", "src="):
        assert outside not in text


def test_report_of_a_file_whose_layers_were_not_measured_has_no_table_of_them() -> None:
    choice = Int8Choice(b"x", "minmax", {"minmax": 0.99}, "discs", "tflite")
    assert "Signal to noise" not in report_html("tiny", [choice], 0.9)


def test_report_says_when_too_little_was_kept() -> None:
    poor = Int8Choice(b"x", "minmax", {"minmax": 0.5}, "agreement with fp32")
    assert 'class="bad"' in report_html("tiny", [poor], 0.99)
    assert 'class="good"' in report_html("tiny", [poor], 0.4)
