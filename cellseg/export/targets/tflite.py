"""The float graph as .tflite files: float32, and integers only.

TensorFlow's converter is given plain functions: the operators of our own ONNX graph, folded and cut
as they are, with an image of any height and width. For int8 it is also told the range of every
tensor, by an operator that rounds to 256 levels (``fake_quant``): so the ranges come from the same
tiles and the same three methods as those of the ONNX file, and the same judge decides::

    image 0..255 -> [0, 255] -> conv -> relu -> [range] -> max-pool -> ... -> softmax -> [0, 1]

TensorFlow is needed for this, and LiteRT to measure what came out.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import Graph, attribute
from cellseg.export.passes import run_pass
from cellseg.export.passes.pad_before_pool import PadBeforePool
from cellseg.export.precisions.ranges import ranges_for
from cellseg.export.targets.tflite_ops import convert_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx

    from cellseg.export.precisions.ranges import Distribution, Ranges

    Rounding = Callable[[Any, "onnx.NodeProto | None"], Any]

__all__ = ["float_tflite", "int8_tflite", "require_tensorflow"]

_BYTE = (0.0, 255.0)
_FUSED = ("Relu",)  # what a TFLite convolution computes along with itself
_MOVERS = ("MaxPool", "AveragePool", "DepthToSpace", "Gather", "Transpose")
_UNRANGED = ("Cast", "GreaterOrEqual")
_FIXED = {  # ranges that the kernels themselves prescribe
    "Softmax": (0.0, 255 / 256),
    "Sigmoid": (0.0, 255 / 256),
    "Tanh": (-1.0, 127 / 128),
}


def require_tensorflow() -> None:
    """Raise ExportError, with the line that installs it, if TFLite files cannot be made here."""
    packages = {"tensorflow": "tensorflow", "ai_edge_litert": "ai-edge-litert"}
    missing = [pip for module, pip in packages.items() if find_spec(module) is None]
    if missing:
        raise ExportError(
            "Target 'tflite' needs TensorFlow and LiteRT. "
            f"Received: no {' and no '.join(missing)}.",
            hint="pip install 'cellseg[train,export,tflite]'",
        )


def float_tflite(model: onnx.ModelProto) -> bytes:
    """Convert a float graph to a float32 file.

    Parameters
    ----------
    model : onnx.ModelProto
        uint8 (N, H, W, 3) to float32 (N, H, W, C), from
        `cellseg.export.sources.translate.plain_graph`.

    Returns
    -------
    bytes
        uint8 (1, H, W, 3) to float32 (1, H, W, C); H and W are set by the interpreter.

    Raises
    ------
    ExportError
        If an operator has no counterpart; it is named.
    """
    import tensorflow as tf

    padded = run_pass(PadBeforePool(), model).model
    converter = _converter(padded, tf.uint8, lambda value, _: value)
    return _converted(converter)


def int8_tflite(
    model: onnx.ModelProto, distributions: dict[str, Distribution], method: str
) -> bytes:
    """Convert a float graph to a file that computes in integers only.

    Parameters
    ----------
    model : onnx.ModelProto
        As for `float_tflite`.
    distributions : dict of str to Distribution
        Of its tensors, from `collect_distributions`.
    method : str
        Key of ``RANGE_METHODS``.

    Returns
    -------
    bytes
        uint8 (1, H, W, 3), the image's bytes, to int8 (1, H, W, C) with scale and zero point.
        Activations int8, weights int8 per channel.

    Raises
    ------
    ExportError
        If an operator has no counterpart, or something would be left in float.
    """
    import tensorflow as tf

    pad = PadBeforePool()
    padded = run_pass(pad, model).model
    ranges = ranges_for(distributions, method)
    ranges |= {name: ranges[source] for name, source in pad.padded.items()}
    converter = _converter(padded, tf.float32, _Rounding(Graph(padded), ranges))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    data = _converted(converter)
    _check_integers_only(data)
    return data


class _Rounding:
    """Tells the converter a tensor's range, where TFLite wants one."""

    def __init__(self, graph: Graph, ranges: Ranges) -> None:
        self._graph, self._ranges = graph, ranges

    def __call__(self, value: Any, node: onnx.NodeProto | None) -> Any:
        """Round what a node computed; None: the image."""
        import tensorflow as tf

        limits = _BYTE if node is None else self._limits(node)
        if limits is None:
            return value
        return tf.quantization.fake_quant_with_min_max_vars(value, *limits)

    def _limits(self, node: onnx.NodeProto) -> tuple[float, float] | None:
        """Range of a node's output; None where it is that of its input, or of what follows."""
        if node.op_type in _FIXED:
            return _FIXED[node.op_type]
        after = self._graph.sole_consumer(node.output[0])
        fused = node.op_type == "Conv" and after is not None and after.op_type in _FUSED
        if fused or node.op_type in (*_MOVERS, *_UNRANGED) or _copies(node):
            return None
        low, high = self._ranges[node.output[0]]
        low, high = min(low, 0.0), max(high, 0.0)  # zero must have a level of its own
        return (low, high) if high > low else (0.0, 1.0)


def _copies(node: onnx.NodeProto) -> bool:
    return node.op_type == "Resize" and attribute(node, "mode", b"nearest") == b"nearest"


def _converter(model: onnx.ModelProto, dtype: Any, rounding: Rounding) -> Any:
    """Trace the graph for one image of any size."""
    import tensorflow as tf

    graph = Graph(model)

    def compute(image: Any) -> Any:
        known = {"": None, graph.input: rounding(image, None)}
        for node in graph.nodes:
            operands = [known[n] if n in known else graph.constant(n) for n in node.input]
            known[node.output[0]] = rounding(_computed(node, operands), node)
        return known[graph.output]

    image = tf.TensorSpec([1, None, None, 3], dtype, "image")
    traced = tf.function(compute, input_signature=[image], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [traced.get_concrete_function()], tf.Module()
    )
    # No operator of TensorFlow itself: it would be missing on the device.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _computed(node: onnx.NodeProto, operands: list[Any]) -> Any:
    import tensorflow as tf

    try:
        return convert_node(node, operands)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(
            "TensorFlow must be able to compute every operator. "
            f"Received: {node.name!r} ({node.op_type}): {reason}",
            hint="Constants that meet a map must be given for (N, C, H, W); or leave tflite out of "
            "--target.",
        ) from error


def _converted(converter: Any) -> bytes:
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        with _quiet():
            return bytes(converter.convert())
    except ConverterError as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(
            f"TensorFlow must be able to convert the graph. Received: {reason}."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's remarks, which are for its own developers, off the screen.

    Their logger also installs a handler for all others, which would say our own remarks twice.
    """
    absl, root = logging.getLogger("absl"), logging.getLogger()
    level, handlers = absl.level, list(root.handlers)
    absl.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        absl.setLevel(level)
        root.handlers[:] = handlers


def _check_integers_only(data: bytes) -> None:
    """Refuse a file in which an operator reads or writes float."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    model = schema.ModelT.InitFromPackedBuf(data)
    main = model.subgraphs[0]
    floats = sorted(
        {
            names[model.operatorCodes[operator.opcodeIndex].builtinCode]
            for operator in main.operators
            for index in (*operator.inputs, *operator.outputs)
            if index >= 0 and main.tensors[index].type == schema.TensorType.FLOAT32
        }
    )
    if floats:
        raise ExportError(
            "An int8 .tflite file must compute in integers only. "
            f"Received: {', '.join(floats)} in float.",
            hint="Use layers that TFLite has in int8, or leave int8 out of --precision.",
        )
