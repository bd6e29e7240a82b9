"""How many operations a network costs a pixel, counted in its graph.

ONNX Runtime runs the float graph once on a small tile, unoptimized and profiled, and reports the
shapes of what went in and out of every node: the operations of convolutions and matrix products
follow from them. All else (activations, pooling, resizing) is left out, as is usual; it is memory
traffic more than arithmetic.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.engines.untold import untold

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellseg.runtime.bundles.bundle import Bundle

__all__ = ["gflop_per_mpx"]

_PROBE_STRIDES = 16
_LEAST_PROBE_PX = 128
Shapes = list[tuple[int, ...]]


def gflop_per_mpx(bundle: Bundle) -> float | None:
    """Return billions of operations for a million pixels; None without a float ONNX file.

    A multiplication and an addition are two operations.
    """
    variant = next((v for v in bundle.variants if v.file == "model.fp32.onnx"), None)
    if variant is None:
        return None
    stride = bundle.manifest.stride
    side = stride * max(_PROBE_STRIDES, -(-_LEAST_PROBE_PX // stride))
    with tempfile.TemporaryDirectory() as folder:
        events = _profile(bundle.read_variant(variant.file), side, Path(folder) / "probe")
    return sum(map(_operations, events)) / 1e9 / (side * side / 1e6)


def _profile(model: bytes, side: int, prefix: Path) -> list[dict[str, Any]]:
    """Return what ONNX Runtime says of each node of one run."""
    with untold():
        import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    blank = np.zeros((1, side, side, 3), np.uint8)
    session.run(None, {session.get_inputs()[0].name: blank})
    listed = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [event.get("args", {}) for event in listed if event.get("cat") == "Node"]
    return [args for args in nodes if "output_type_shape" in args]


def _operations(node: dict[str, Any]) -> int:
    count = _COUNTED.get(node["op_name"])
    if count is None:
        return 0
    return count(_shapes(node["input_type_shape"]), _shapes(node["output_type_shape"]))


def _shapes(listed: list[dict[str, list[int]]]) -> Shapes:
    return [tuple(shape) for entry in listed for shape in entry.values()]


def _conv(inputs: Shapes, outputs: Shapes) -> int:
    """Each output value sums over one kernel, shape (M, C / groups, ...)."""
    return 2 * math.prod(outputs[0]) * math.prod(inputs[1][1:])


def _conv_transpose(inputs: Shapes, _: Shapes) -> int:
    """Each input value is spread by one kernel, shape (C, M / groups, ...)."""
    return 2 * math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _matmul(inputs: Shapes, outputs: Shapes) -> int:
    return 2 * math.prod(outputs[0]) * inputs[0][-1]


_COUNTED: dict[str, Callable[[Shapes, Shapes], int]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "Gemm": _matmul,
}
