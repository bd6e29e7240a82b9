"""The int8 graph for TensorRT: signed, symmetric, and in pairs that TensorRT fuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import Graph
from cellseg.export.precisions.ranges import RANGE_METHODS, collect_distributions
from cellseg.export.precisions.s8s8 import quantize_s8s8
from cellseg.export.precisions.u8s8 import last_convolutions
from cellseg.export.sources.translate import float_graph
from tests.export.drawn_images import draw_discs
from tests.export.graphs import noise, ops, run_onnx
from tests.export.networks import ignore_keras_warnings, unet

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = ignore_keras_warnings
TILES = [draw_discs(seed, (64, 64))[0] for seed in range(4)]

# Mean difference of a probability. A signed byte has half the steps of an unsigned one.
MEAN_TOLERANCE = 1e-2


def both(**options: Any) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    model = float_graph(unet(**options), range(3), 3)
    return model, quantize_s8s8(model, collect_distributions(model, TILES), "minmax")


def constants(model: onnx.ModelProto, op: str, place: int) -> list[NDArray[Any]]:
    graph = Graph(model)
    found = [graph.constant(node.input[place]) for node in graph.of_type(op)]
    return [array for array in found if array is not None]


@pytest.mark.parametrize("options", [{}, {"stem": False}, {"up": "nearest"}], ids=str)
def test_it_stays_close_to_fp32(options: dict[str, Any]) -> None:
    model, quantized = both(**options)
    unseen = draw_discs(9, (64, 64))[0][np.newaxis]
    difference = np.abs(run_onnx(quantized, unseen) - run_onnx(model, unseen))
    assert difference.mean() < MEAN_TOLERANCE
    assert difference.max() > 0


def test_nothing_is_unsigned_or_has_a_zero_point() -> None:
    _, quantized = both()
    for op in ("QuantizeLinear", "DequantizeLinear"):
        for zero in constants(quantized, op, 2):
            assert zero.dtype == np.int8
            assert not zero.any()


def test_activations_have_one_scale_and_weights_one_a_channel() -> None:
    _, quantized = both()
    assert all(scale.shape == () for scale in constants(quantized, "QuantizeLinear", 1))
    weights = constants(quantized, "DequantizeLinear", 0)
    scales = [scale for scale in constants(quantized, "DequantizeLinear", 1) if scale.ndim == 1]
    assert [len(array) for array in weights] == [len(scale) for scale in scales]
    assert all(array.min() >= -127 for array in weights)


def test_biases_stay_float() -> None:
    _, quantized = both()
    assert all(bias.dtype == np.float32 for bias in constants(quantized, "Conv", 2))


def test_every_convolution_reads_int8_and_what_the_last_gives_is_float() -> None:
    model, quantized = both()
    graph, last = Graph(quantized), last_convolutions(model)
    for node in graph.of_type("Conv"):
        made_by = [graph.producer(name) for name in node.input[:2]]
        assert all(n is not None and n.op_type == "DequantizeLinear" for n in made_by)
        if node.name in last:
            assert "QuantizeLinear" not in [n.op_type for n in graph.consumers(node.output[0])]


def test_skip_connections_have_one_scale_on_all_sides() -> None:
    _, quantized = both()
    graph = Graph(quantized)
    (concat, *_) = graph.of_type("Concat")
    around = [graph.producer(name) for name in concat.input]
    around += [n for n in graph.consumers(concat.output[0]) if n.op_type == "QuantizeLinear"]
    scales = {float(graph.constant(node.input[1])) for node in around if node is not None}
    assert len(around) == 3
    assert len(scales) == 1


def test_format_stays_what_old_parsers_read() -> None:
    _, quantized = both()
    assert [(entry.domain, entry.version) for entry in quantized.opset_import] == [("", 17)]
    assert quantized.ir_version <= 9
    assert ops(quantized)[:2] == ["Cast", "Transpose"]


def test_layers_may_be_given_back_to_float() -> None:
    model = float_graph(unet(), range(3), 3)
    found = collect_distributions(model, TILES)
    names = [node.name for node in model.graph.node if node.op_type == "Conv"]
    some = quantize_s8s8(model, found, "minmax", names[1:3])
    graph = Graph(some)
    for node in graph.of_type("Conv"):
        is_float = graph.constant(node.input[1]) is not None
        assert is_float == (node.name in names[1:3])
    assert quantize_s8s8(model, found, "minmax", names).graph.node
    assert "QuantizeLinear" not in ops(quantize_s8s8(model, found, "minmax", names))


def test_file_is_small_and_reproducible() -> None:
    model = float_graph(unet(base=16), range(3), 3)
    found = collect_distributions(model, TILES[:1])
    first, second = (quantize_s8s8(model, found, "entropy").SerializeToString() for _ in range(2))
    assert first == second
    assert len(first) < 0.5 * len(model.SerializeToString())


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_every_range_method_gives_a_graph_that_runs(method: str) -> None:
    model = float_graph(unet(), range(3), 3)
    quantized = quantize_s8s8(model, collect_distributions(model, TILES), method)
    assert np.isfinite(run_onnx(quantized, noise(1, 32, 32))).all()


def test_channel_of_zeros_keeps_its_zeros() -> None:
    model = float_graph(unet(), range(3), 3)
    (first, *_) = [node for node in model.graph.node if node.op_type == "Conv"]
    for item in model.graph.initializer:
        if item.name == first.input[1]:
            weights = numpy_helper.to_array(item).copy()
            weights[0] = 0
            item.CopyFrom(numpy_helper.from_array(weights, item.name))
    quantized = quantize_s8s8(model, collect_distributions(model, TILES), "minmax")
    assert np.isfinite(run_onnx(quantized, noise(1, 32, 32))).all()


def test_quantizing_twice_is_refused() -> None:
    model, quantized = both()
    with pytest.raises(ExportError, match="float graph"):
        quantize_s8s8(quantized, collect_distributions(model, TILES), "minmax")
