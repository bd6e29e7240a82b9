"""Runs tiles through a graph and hands out the tensors inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from cellseg.export.onnx_graph.graph import Graph
from cellseg.runtime.engines.untold import untold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["literal_session", "run_tensors"]


def run_tensors(
    model: onnx.ModelProto, names: Sequence[str], tiles: Sequence[NDArray[np.uint8]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the named tensors, tile by tile; one tile is in memory at a time.

    Parameters
    ----------
    model : onnx.ModelProto
        The graph.
    names : sequence of str
        Tensors to hand out.
    tiles : sequence of uint8, shape (h, w, 3)
        What to run.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = literal_session(opened.SerializeToString())
    for tile in tiles:
        values = session.run([*names], {Graph(model).input: tile[np.newaxis]})
        yield dict(zip(names, values, strict=True))


def literal_session(model: bytes, threads: int = 0) -> Any:
    """Open a CPU session that computes Q/DQ pairs as they stand, in float32.

    ONNX Runtime would join pairs and operators to int8 kernels of its own, which round otherwise,
    and saturate on some processors. As they stand, results are those of int8 products summed
    without loss: what a GPU computes.
    """
    with untold():
        import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
