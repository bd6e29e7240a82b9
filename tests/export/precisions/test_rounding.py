"""Weights that are rounded together err less over what the network sees, and stay what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from cellseg.export.onnx_graph.graph import Graph
from cellseg.export.onnx_graph.tensors import run_tensors
from cellseg.export.precisions.ranges import collect_distributions
from cellseg.export.precisions.rounding import _layers, _patches, round_weights, second_moments
from cellseg.export.precisions.s8s8 import quantize_s8s8
from cellseg.export.precisions.sqnr import measure_noise
from cellseg.export.precisions.u8s8 import quantize_u8s8
from cellseg.export.sources.translate import float_graph
from tests.export.drawn_images import draw_discs
from tests.export.graphs import Sketch
from tests.export.networks import ignore_keras_warnings, unet

pytestmark = ignore_keras_warnings
TILES = [draw_discs(seed, (64, 64))[0] for seed in range(8)]
SEEN, UNSEEN = TILES[:6], TILES[6:]


def integers(model: onnx.ModelProto) -> dict[str, Any]:
    """int8 kernels by their names."""
    graph = Graph(model)
    found = {item.name: graph.constant(item.name) for item in model.graph.initializer}
    return {k: v for k, v in found.items() if v is not None and v.dtype == np.int8 and v.ndim == 4}


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [(3, 1, 1), (1, 1, 1), (3, 2, 1), (3, 1, 2), (5, 1, 1)],
)
def test_what_a_kernel_sees_is_what_its_convolution_multiplies(
    kernel: int, stride: int, dilation: int
) -> None:
    model = Sketch().conv(4).conv(5, kernel, stride, dilation).model()
    layer = _layers(model)[1]
    names = [layer.node.input[0], layer.node.output[0]]
    (tensors,) = run_tensors(model, names, [TILES[0]])
    draw, again = np.random.default_rng(1), np.random.default_rng(1)
    seen = _patches(tensors[names[0]][0], layer, draw)
    bias = Graph(model).constant(layer.node.input[2])
    assert bias is not None
    expected = tensors[names[1]][0]  # (K, h, w)
    y, x = (again.integers(0, side, len(seen)) for side in expected.shape[1:])
    found = seen @ layer.weights.reshape(5, -1).T + bias
    np.testing.assert_allclose(found, expected[:, y, x].T, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("quantize", [quantize_u8s8, quantize_s8s8])
def test_a_network_gets_less_noise_on_tiles_it_was_not_rounded_by(quantize: Any) -> None:
    model = float_graph(unet(), range(3), 3)
    quantized = quantize(model, collect_distributions(model, SEEN), "minmax")
    rounded = round_weights(model, quantized, second_moments(model, SEEN))
    onnx.checker.check_model(rounded, full_check=True)
    before, after = (
        {item.layer: item.alone_db for item in measure_noise(model, graph, UNSEEN)}
        for graph in (quantized, rounded)
    )
    gains = [after[name] - before[name] for name in before]  # type: ignore[operator]
    assert np.mean(gains) > 0.5


def test_only_integers_change_and_none_grows_past_the_greatest() -> None:
    model = float_graph(unet(), range(3), 3)
    last = [node.name for node in Graph(model).of_type("Conv")][-1]
    quantized = quantize_u8s8(model, collect_distributions(model, SEEN), "minmax", [last])
    rounded = round_weights(model, quantized, second_moments(model, SEEN))
    before, after = integers(quantized), integers(rounded)
    assert before.keys() == after.keys()
    assert any(np.any(before[name] != after[name]) for name in before)
    for name, values in after.items():
        assert np.abs(values.astype(int)).max() <= np.abs(before[name].astype(int)).max() <= 64
    others = [
        [item for item in graph.graph.initializer if item.name not in before]
        for graph in (quantized, rounded)
    ]
    assert others[0] == others[1]
    assert quantized.graph.node == rounded.graph.node


def test_without_moments_weights_stay_as_they_are() -> None:
    model = float_graph(unet(), range(3), 3)
    quantized = quantize_u8s8(model, collect_distributions(model, SEEN), "minmax")
    assert round_weights(model, quantized, {}) == quantized
