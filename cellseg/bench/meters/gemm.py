"""The fastest matrix product of this machine: the roof under which every network runs.

A product of two square matrices is what hardware and libraries do best. It is timed in every
library at hand, and the fastest counts, so that the roof is what can be reached here and not what
one library happens to reach. One weight matrix is a constant, as in a network. The ONNX file for it
is put together here (a few protobuf fields), since the package ``onnx`` is not needed to run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.bench.record import Peak
from cellseg.runtime.engines import ENGINES
from cellseg.runtime.engines.untold import untold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["measure_peaks"]

PRECISIONS = ("fp32", "bf16", "int8")
_SIDE = 1024
_ROUND_S = 0.25
_ROUNDS = 3
_FLOAT, _UINT8, _INT8 = 1, 2, 3  # of TensorProto
_VERSION, _OPSET = 8, 13


def measure_peaks(threads: int, side: int = _SIDE) -> dict[str, Peak | None]:
    """Measure the roof of each precision, GFLOP/s; None where no library computes in it.

    Parameters
    ----------
    threads : int
        Threads to compute with.
    side : int
        Rows and columns of the matrices.
    """
    return {precision: _fastest(precision, threads, side) for precision in PRECISIONS}


def _fastest(precision: str, threads: int, side: int) -> Peak | None:
    found = [
        Peak(gflop_s=2 * side**3 / seconds / 1e9, by=name)
        for name, product in _products(precision, threads, side)
        if (seconds := _best_seconds(product)) is not None
    ]
    return max(found, key=lambda peak: peak.gflop_s, default=None)


def _best_seconds(product: Callable[[], object]) -> float | None:
    """Seconds of one product, the best of some rounds; None if it cannot be computed."""
    try:
        product()
    except Exception:  # an instruction set that is not there, an operator that is not known
        return None
    best = np.inf
    for _ in range(_ROUNDS):
        started_s, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - started_s < _ROUND_S:
            product()
            count += 1
        best = min(best, (time.perf_counter() - started_s) / count)
    return float(best)


def _products(
    precision: str, threads: int, side: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield who can multiply at a precision, and how."""
    matrix = np.random.default_rng(0).random((side, side), np.float32)
    model = matmul_model(side, is_int8=precision == "int8")
    if precision == "fp32":
        yield "numpy", lambda: matrix @ matrix
    makers = {"onnxruntime": _onnxruntime, "openvino": _openvino}
    for name, make in makers.items():
        if not ENGINES[name].is_installed:
            continue
        product = make(model, matrix, precision, threads)
        if product is not None:
            yield name, product


def _onnxruntime(
    model: bytes, matrix: NDArray[np.float32], precision: str, threads: int
) -> Callable[[], object] | None:
    if precision == "bf16":
        return None
    with untold():
        import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": matrix})


def _openvino(
    model: bytes, matrix: NDArray[np.float32], precision: str, threads: int
) -> Callable[[], object] | None:
    with untold():
        import openvino as ov

    core = ov.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    compiled = core.compile_model(
        core.read_model(model),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one product
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "ENABLE_CPU_PINNING": False,
        },
    )
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(matrix, shared_memory=True))
    return lambda: request.infer()


# --- an ONNX file of one product -----------------------------------------------------------------


def matmul_model(side: int, *, is_int8: bool) -> bytes:
    """Return an ONNX file that multiplies ``a`` (side, side) by a constant.

    Parameters
    ----------
    side : int
        Rows and columns.
    is_int8 : bool
        Quantize both, unsigned times signed, and the result: what engines turn into one int8
        product.
    """
    rng = np.random.default_rng(1)
    if not is_int8:
        weights = rng.random((side, side), np.float32)
        parts = [_node("MatMul", ("a", "w"), "c"), _constant("w", weights, _FLOAT)]
    else:
        weights = rng.integers(-127, 128, (side, side), np.int8)
        parts = [
            _node("QuantizeLinear", ("a", "sa", "za"), "qa"),
            _node("DequantizeLinear", ("qa", "sa", "za"), "da"),
            _node("DequantizeLinear", ("w", "sw", "zw"), "dw"),
            _node("MatMul", ("da", "dw"), "m"),
            _node("QuantizeLinear", ("m", "sc", "za"), "qc"),
            _node("DequantizeLinear", ("qc", "sc", "za"), "c"),
            _constant("w", weights, _INT8),
            _constant("zw", np.array(0, np.int8), _INT8),
            _constant("za", np.array(0, np.uint8), _UINT8),
            *(_constant(n, np.array(s, np.float32), _FLOAT)
              for n, s in (("sa", 1 / 255), ("sw", 1 / 127), ("sc", side / 255))),
        ]  # fmt: skip
    graph = b"".join([*parts, _text(2, "product"), _tensor(11, "a", side), _tensor(12, "c", side)])
    return _varint(1, _VERSION) + _field(7, graph) + _field(8, _varint(2, _OPSET))


def _node(kind: str, inputs: tuple[str, ...], output: str) -> bytes:
    names = b"".join(_text(1, name) for name in inputs)
    return _field(1, names + _text(2, output) + _text(4, kind))


def _constant(name: str, values: NDArray[Any], kind: int) -> bytes:
    sizes = b"".join(_varint(1, size) for size in values.shape)
    return _field(5, sizes + _varint(2, kind) + _text(8, name) + _field(9, values.tobytes()))


def _tensor(field: int, name: str, side: int) -> bytes:
    """Declare a float matrix as input (11) or output (12) of the graph."""
    size = _field(1, _varint(1, side))
    matrix = _field(1, _varint(1, _FLOAT) + _field(2, size + size))
    return _field(field, _text(1, name) + _field(2, matrix))


def _text(field: int, text: str) -> bytes:
    return _field(field, text.encode())


def _field(field: int, data: bytes) -> bytes:
    return _base128(field << 3 | 2) + _base128(len(data)) + data


def _varint(field: int, value: int) -> bytes:
    return _base128(field << 3) + _base128(value)


def _base128(value: int) -> bytes:
    coded = bytearray()
    while value > 127:
        coded.append(value & 127 | 128)
        value >>= 7
    return bytes([*coded, value])
