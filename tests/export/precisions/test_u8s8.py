"""The int8 graph runs everywhere, as int8, and stays close to fp32."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from cellseg.export.precisions.ranges import RANGE_METHODS, collect_distributions
from cellseg.export.precisions.u8s8 import last_convolutions, quantize_u8s8
from cellseg.export.sources.translate import float_graph
from cellseg.runtime.engines import ENGINES, EngineOptions
from cellseg.runtime.engines.table import Needs
from tests.export.drawn_images import draw_discs
from tests.export.graphs import Sketch, noise, ops, run_onnx
from tests.export.networks import ignore_keras_warnings, unet

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = ignore_keras_warnings
TILES = [draw_discs(seed, (64, 64))[0] for seed in range(4)]

READS_U8S8 = [n for n, e in ENGINES.items() if e.runs.get("int8") == Needs("onnx", "int8", "u8s8")]

# Mean difference of a probability. 8-bit activations of a random network move them by about 1e-3.
MEAN_TOLERANCE = 5e-3


def both(**options: Any) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    model = float_graph(unet(**options), range(3), 3)
    return model, quantize_u8s8(model, collect_distributions(model, TILES), "minmax")


@pytest.mark.parametrize("options", [{}, {"stem": False}, {"up": "nearest"}], ids=str)
@pytest.mark.parametrize("name", READS_U8S8)
def test_int8_stays_close_to_fp32_in_every_engine(name: str, options: dict[str, Any]) -> None:
    if not ENGINES[name].is_available():
        pytest.skip(f"{ENGINES[name].import_name} is not installed")
    model, quantized = both(**options)
    engine = ENGINES[name].load(name)(
        quantized.SerializeToString(), EngineOptions("int8", (64, 64), 3, 1)
    )
    unseen = draw_discs(9, (64, 64))[0]
    difference = np.abs(engine.infer(unseen) - run_onnx(model, unseen[np.newaxis])[0])
    assert difference.mean() < MEAN_TOLERANCE
    assert difference.max() > 0  # it is another file


def test_format_stays_what_old_parsers_read() -> None:
    _, quantized = both()
    onnx.checker.check_model(quantized, full_check=True)
    assert [(entry.domain, entry.version) for entry in quantized.opset_import] == [("", 17)]
    assert quantized.ir_version <= 9
    assert "FusedConv" not in ops(quantized)


def makers(model: onnx.ModelProto) -> dict[str, str]:
    """Operator that makes each tensor; constants are made by none."""
    return {name: node.op_type for node in model.graph.node for name in node.output}


def test_every_convolution_reads_bytes_and_what_the_last_gives_is_float() -> None:
    model, quantized = both()
    made_by = makers(quantized)
    image = next(n.output[0] for n in quantized.graph.node if n.op_type == "Transpose")
    made_by[image] = made_by[next(n.input[0] for n in quantized.graph.node if image in n.output)]
    (last,) = last_convolutions(model)
    for node in quantized.graph.node:
        if node.op_type == "Conv":
            assert {made_by[name] for name in node.input[:2]} == {"DequantizeLinear"}
            (reader,) = [n.op_type for n in quantized.graph.node if node.output[0] in n.input]
            assert (reader == "QuantizeLinear") == (node.name != last)


def test_last_convolution_given_back_is_as_it_was() -> None:
    model = float_graph(unet(), range(3), 3)
    (last,) = last_convolutions(model)
    file = quantize_u8s8(model, collect_distributions(model, TILES), "minmax", [last])
    (node,) = [node for node in file.graph.node if node.name == last]
    (source,) = [node for node in model.graph.node if node.name == last]
    assert node.input[1] == source.input[1]
    assert node.input[1] not in makers(file)


def test_last_convolution_that_is_the_output_keeps_its_name() -> None:
    model = Sketch().by_constant("Mul", 1 / 255).conv(8).node("Relu").conv(2).model()
    file = quantize_u8s8(model, collect_distributions(model, TILES), "minmax")
    assert [item.name for item in file.graph.output] == [item.name for item in model.graph.output]
    assert np.isfinite(run_onnx(file, noise(1, 32, 32))).all()


def test_image_enters_as_bytes() -> None:
    _, quantized = both()
    assert "Cast" not in ops(quantized)
    (reader,) = [n for n in quantized.graph.node if quantized.graph.input[0].name in n.input]
    (transpose,) = [n for n in quantized.graph.node if reader.output[0] in n.input]
    assert (reader.op_type, transpose.op_type) == ("DequantizeLinear", "Transpose")


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="other processors have other kernels"
)
def test_openvino_computes_every_convolution_in_bytes_from_the_image_on() -> None:
    ov = pytest.importorskip("openvino")
    model = ov.Core().read_model(both(base=16)[1].SerializeToString())
    model.reshape({model.input(0): [1, 64, 64, 3]})
    layers = ov.Core().compile_model(model, "CPU").get_runtime_model().get_ordered_ops()
    facts = [layer.get_rt_info() for layer in layers]
    ran_as = [
        each["primitiveType"].astype(str) for each in facts if each["layerType"] == "Convolution"
    ]
    assert ran_as
    assert all(name.endswith("8") for name in ran_as), ran_as  # jit_avx2_I8, not brgconv_avx2_f32


def test_shifted_image_stays_float_up_to_the_first_convolution() -> None:
    _, quantized = both(scale=1 / 127.5, offset=-1.0)
    order = ops(quantized)
    assert "Cast" in order
    images = noise(1, 32, 32)
    assert np.isfinite(run_onnx(quantized, images)).all()
    weights = {item.name for item in quantized.graph.initializer}
    first = quantized.graph.node[order.index("Conv")]
    assert first.input[1] in weights


def test_quantizing_is_reproducible() -> None:
    model = float_graph(unet(), range(3), 3)
    first, second = (
        quantize_u8s8(model, collect_distributions(model, TILES), "entropy") for _ in range(2)
    )
    assert first.SerializeToString() == second.SerializeToString()


def test_weights_use_seven_bits_so_that_no_processor_saturates() -> None:
    from onnx import numpy_helper

    _, quantized = both()
    arrays = [numpy_helper.to_array(item) for item in quantized.graph.initializer]
    weights: list[NDArray[np.int8]] = [a for a in arrays if a.dtype == np.int8 and a.ndim == 4]
    assert weights
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) <= 64


def scales_of(model: onnx.ModelProto) -> dict[str, tuple[float, int]]:
    """Return step and zero of each tensor that is rounded."""
    from onnx import numpy_helper

    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return {
        node.input[0]: (float(values[node.input[1]]), int(values[node.input[2]])) for node in pairs
    }


def joined(up: str, seed: int = 0) -> tuple[list[str], onnx.ModelProto]:
    """Return what a decoder's joint puts together, then the joint itself, and the int8 graph."""
    keras_model = unet(up=up, seed=seed)
    model = float_graph(keras_model, range(3), 3)
    (joint,) = [node for node in model.graph.node if node.op_type == "Concat"]
    quantized = quantize_u8s8(model, collect_distributions(model, TILES), "minmax")
    return [*joint.input, joint.output[0]], quantized


def test_what_is_made_for_a_joint_is_rounded_as_the_joint() -> None:
    (below, skip, joint), quantized = joined("transpose")
    scales = scales_of(quantized)
    (spread,) = [node for node in quantized.graph.node if below in node.output]
    (blocks,) = [n.input[0] for n in quantized.graph.node if spread.input[0] in n.output]
    (stored,) = [n.input[0] for n in quantized.graph.node if blocks in n.output]
    assert spread.op_type == "DepthToSpace"
    assert scales[below] == scales[stored] == scales[joint]
    assert scales[skip] != scales[joint]  # the encoder goes on with it
    assert scales[skip][1] == 0  # bytes begin at the zero of its rectifier
    assert scales[joint][1] > 0


def test_what_was_rectified_before_a_joint_stays_rectified() -> None:
    """Bytes that begin at zero do a rectifier's work; those of a joint that goes below do not."""
    sketch = Sketch().by_constant("Mul", 1 / 255).by_constant("Add", -0.5).conv(4)
    skip = sketch.value
    sketch.conv(8, stride=2).conv(16).node("Relu").node("DepthToSpace", blocksize=2, mode="DCR")
    sketch.node("Concat", [sketch.value, skip], axis=1)
    sketch.channels = 8
    model = sketch.conv(3).model()
    quantized = quantize_u8s8(model, collect_distributions(model, TILES), "minmax")
    (joint,) = [node.output[0] for node in quantized.graph.node if node.op_type == "Concat"]
    assert scales_of(quantized)[joint][1] > 0
    image = draw_discs(9, (64, 64))[0][np.newaxis]
    expected, found = run_onnx(model, image), run_onnx(quantized, image)
    assert np.abs(found - expected).mean() < 0.05 * expected.std()


def test_places_of_a_block_share_the_step_of_their_channel() -> None:
    from onnx import numpy_helper

    model = float_graph(unet(up="transpose"), range(3), 3)
    quantized = quantize_u8s8(model, collect_distributions(model, TILES), "minmax")
    values = {item.name: numpy_helper.to_array(item) for item in quantized.graph.initializer}
    makers = {node.output[0]: node for node in quantized.graph.node}
    spread = next(node for node in quantized.graph.node if node.op_type == "DepthToSpace")
    node = makers[spread.input[0]]
    while node.op_type != "Conv":
        node = makers[node.input[0]]
    bytes_, steps = (values[name] for name in makers[node.input[1]].input[:2])
    by_place = steps.reshape(4, -1)
    np.testing.assert_array_equal(by_place, np.broadcast_to(by_place[:1], by_place.shape))
    assert len(np.unique(by_place[0])) == by_place.shape[1]  # of each channel its own
    largest = np.abs(bytes_.astype(int)).reshape(4, by_place.shape[1], -1).max(axis=(0, 2))
    np.testing.assert_array_equal(largest, 64)  # and no larger than need be


def test_nodes_may_be_given_back_to_float() -> None:
    model = float_graph(unet(), range(3), 3)
    names = [node.name for node in model.graph.node if node.op_type == "Conv"]
    found = collect_distributions(model, TILES)
    some = quantize_u8s8(model, found, "minmax", names[:2])
    assert ops(some).count("QuantizeLinear") < ops(both()[1]).count("QuantizeLinear")


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_every_range_method_gives_a_graph_that_runs(method: str) -> None:
    model = float_graph(unet(), range(3), 3)
    quantized = quantize_u8s8(model, collect_distributions(model, TILES), method)
    assert np.isfinite(run_onnx(quantized, noise(1, 32, 32))).all()
