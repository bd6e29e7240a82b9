"""The float16 graph is float16 all through, close to float32, and never infinite."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from cellseg.errors import ExportError
from cellseg.export.precisions.float16 import LARGEST, find_largest, to_float16
from cellseg.export.precisions.ranges import Distribution, collect_distributions
from cellseg.export.sources.translate import float_graph
from tests.export.drawn_images import draw_discs
from tests.export.graphs import noise, run_onnx
from tests.export.networks import ignore_keras_warnings, unet

pytestmark = ignore_keras_warnings
TILES = [draw_discs(seed, (64, 64))[0] for seed in range(2)]


def translated(**options: Any) -> onnx.ModelProto:
    return float_graph(unet(**options), range(3), 3)


@pytest.mark.parametrize("options", [{}, {"up": "bilinear"}, {"offset": -1.0}], ids=str)
def test_float16_stays_close_to_float32(options: dict[str, Any]) -> None:
    model = translated(**options)
    half, largest = to_float16(model, collect_distributions(model, TILES))
    images = noise(1, 32, 48)
    found = run_onnx(half, images)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - run_onnx(model, images)).max() < 5e-3
    assert 1 < largest.value < LARGEST


def test_every_tensor_is_typed_and_the_borders_stay() -> None:
    model = translated()
    half, _ = to_float16(model, collect_distributions(model, TILES))
    assert half.graph.input == model.graph.input
    assert half.graph.output == model.graph.output
    inferred = onnx.shape_inference.infer_shapes(half, strict_mode=True)
    inside = {value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    assert inside == {TensorProto.FLOAT16}  # bytes are cast before anything else
    casts = [node.op_type for node in half.graph.node if "image" in node.input]
    assert [*casts, half.graph.node[-1].op_type] == ["Cast", "Cast"]


def test_file_is_half_as_large() -> None:
    model = translated(base=8)
    half, _ = to_float16(model, collect_distributions(model, TILES))
    assert half.ByteSize() < 0.6 * model.ByteSize()


def test_value_that_overflows_is_refused_by_the_name_of_its_layer() -> None:
    model = translated()
    distributions = collect_distributions(model, TILES)
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    distributions[node.output[0]] = Distribution(0.0, 7e4, np.ones(4, np.int64))
    assert find_largest(model, distributions).layer == node.name
    with pytest.raises(ExportError, match=f"Received: 7e.04 computed by '{node.name}'"):
        to_float16(model, distributions)


def test_weight_that_overflows_is_refused_by_name() -> None:
    model = translated()
    distributions = collect_distributions(model, TILES)
    weights = model.graph.initializer[0]
    weights.CopyFrom(numpy_helper.from_array(np.full(weights.dims, 1e6, np.float32), weights.name))
    with pytest.raises(ExportError, match=f"1e.06 in the weights '{weights.name}'"):
        to_float16(model, distributions)
