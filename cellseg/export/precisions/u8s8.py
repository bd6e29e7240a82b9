"""int8 for CPUs: unsigned activations, signed weights per channel, as Q/DQ pairs in the graph.

Quantized are the convolutions and what lies between them. What the last ones give stays in float,
as does all that follows them (softmax): bytes there would round the probabilities. The image enters
as the bytes it is. Weights use 7 of their 8 bits: the multiply-add of processors without VNNI
saturates with 8, so the same file would give other results there, and far worse ones (a
half-trained network of base 24, ONNX Runtime on AVX2: mean difference from fp32 1.3e-2 with 8 bits,
1.4e-3 with 7).

What a convolution makes for a concatenation alone, as that which doubles a decoder's resolution,
takes the range of what comes out of it: there it would be rounded to that range anyhow, at the cost
of reading and writing it once more.

Where a convolution makes blocks of pixels, which `DepthToSpace` spreads, the places of a block
share the step of their channel: an engine may then compute them as a transposed convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.builder import IR_VERSION, OPSET
from cellseg.export.onnx_graph.graph import Graph, attribute
from cellseg.export.passes import run_passes
from cellseg.export.passes.keep_outputs import KeepOutputs
from cellseg.export.passes.read_bytes import ReadBytes
from cellseg.export.precisions.ranges import ranges_for
from cellseg.runtime.engines.untold import untold

if TYPE_CHECKING:
    from collections.abc import Collection

    from cellseg.export.precisions.ranges import Distribution, Ranges

__all__ = ["last_convolutions", "quantize_u8s8"]

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_QUANTIZED = (
    *_CONVOLUTIONS,
    *("Relu", "Clip", "LeakyRelu"),  # a rectifier vanishes: bytes begin at its zero
    *("MaxPool", "AveragePool", "Resize", "DepthToSpace", "Concat", "Add", "Mul"),
)


def quantize_u8s8(
    model: onnx.ModelProto,
    distributions: dict[str, Distribution],
    method: str,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """Quantize a float graph, statically, for x86 CPUs.

    Parameters
    ----------
    model : onnx.ModelProto
        The float graph after all passes; BatchNormalization folded.
    distributions : dict of str to Distribution
        Of every tensor, from `collect_distributions`.
    method : str
        Key of ``RANGE_METHODS``.
    keep_float : collection of str
        Names of further nodes to leave in float; what follows the last convolutions always is.

    Returns
    -------
    onnx.ModelProto
        Same inputs, outputs, opset and IR version.
    """
    with untold():
        from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
        from onnxruntime.quantization.calibrate import TensorData, TensorsData

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    ranges = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in _joined(model, ranges_for(distributions, method)).items()
    }
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(copy),
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=[],
        nodes_to_exclude=[*_nodes_after(model), *_shifted_input_nodes(model), *keep_float],
        op_types_to_quantize=[*_QUANTIZED],
        extra_options={
            "ActivationSymmetric": False,
            "WeightSymmetric": True,
            "TensorQuantOverrides": _block_ranges(model),
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return _finish(quantizer.model.model, last_convolutions(model))


def _joined(model: onnx.ModelProto, ranges: Ranges) -> Ranges:
    """Give what is made for a Concat alone the range of what comes out of it."""
    graph = Graph(model)
    for joint in graph.of_type("Concat"):
        low, high = ranges.get(joint.output[0], (0.0, 0.0))
        if low == high:
            continue
        made = [name for tensor in joint.input for name in _made_for_one(graph, tensor, low == 0)]
        ranges = {**ranges, **dict.fromkeys(made, (low, high))}
    return ranges


def _block_ranges(model: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    """Ranges of kernels that make blocks of pixels: of a channel the largest of its places."""
    graph = Graph(model)
    ranges: dict[str, list[dict[str, Any]]] = {}
    for spread in graph.of_type("DepthToSpace"):
        node = graph.producer(spread.input[0])
        while node is not None and node.op_type == "Relu":
            node = graph.producer(node.input[0])
        if node is None or node.op_type != "Conv":
            continue
        kernel = graph.constant(node.input[1])
        if kernel is not None:
            places = attribute(spread, "blocksize") ** 2
            shape = (places, -1) if attribute(spread, "mode", b"DCR") == b"DCR" else (-1, places)
            most = np.abs(kernel).reshape(len(kernel), -1).max(axis=1).reshape(shape)
            shared = most.max(axis=shape.index(places), keepdims=True)
            most = np.broadcast_to(shared, most.shape).ravel()
            ranges[node.input[1]] = [{"axis": 0, "rmin": -end, "rmax": end} for end in most]
    return ranges


def _made_for_one(graph: Graph, tensor: str, rectified: bool) -> list[str]:
    """Names of a tensor, and of what was moved to make it, back to a convolution that made it all.

    Where bytes do not begin at zero, nothing may have been rectified: bytes do that instead of it.
    """
    names: list[str] = []
    movers = ("DepthToSpace", "Relu") if rectified else ("DepthToSpace",)
    while graph.sole_consumer(tensor) is not None:
        names.append(tensor)
        node = graph.producer(tensor)
        if node is not None and node.op_type in _CONVOLUTIONS:
            return names
        if node is None or node.op_type not in movers:
            return []
        tensor = node.input[0]
    return []


def last_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that no other one follows."""
    convolutions = {node.name for node in Graph(model).of_type(*_CONVOLUTIONS)}
    return [name for name in _tail(model) if name in convolutions]


def _nodes_after(model: onnx.ModelProto) -> list[str]:
    """Names of all that follows the last convolutions."""
    last = last_convolutions(model)
    return [name for name in _tail(model) if name not in last]


def _tail(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the output up to the first convolutions that are met."""
    graph = Graph(model)
    wanted, names = {graph.output}, []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.output):
            names.append(node.name)
            if node.op_type not in _CONVOLUTIONS:
                wanted.update(node.input)
    return names


def _shifted_input_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the addition to the image and of what reads it.

    A shift by half a grey level, as of networks that take -1..1, would fall between the bytes and
    cost one of the image's eight bits.
    """
    graph = Graph(model)
    shifts = [node for cast in graph.of_type("Cast") for node in graph.consumers(cast.output[0])]
    shifts = [node for node in shifts if node.op_type in ("Add", "Mul")]
    readers = [node for shift in shifts for node in graph.consumers(shift.output[0])]
    return [node.name for node in (*shifts, *readers)]


def _finish(model: onnx.ModelProto, last: Collection[str]) -> onnx.ModelProto:
    """Undo what the quantizer changed beside the graph; read bytes as bytes, and write floats."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("", opsets.get("ai.onnx")) != OPSET:
        raise ExportError(f"Quantizing must keep opset {OPSET}. Received: {opsets}.")
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "cellseg", ""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    return run_passes((KeepOutputs(last), ReadBytes()), model)
