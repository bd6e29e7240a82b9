"""Small ONNX graphs made without Keras, and how to run them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto

from cellseg.export.onnx_graph.builder import INPUT, OUTPUT, GraphBuilder

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


class Sketch:
    """A graph in the making: each call adds a node to the end of the line."""

    def __init__(self, seed: int = 0) -> None:
        self.builder = GraphBuilder()
        self.rng = np.random.default_rng(seed)
        planar = self.builder.node("Transpose", [INPUT], "planar", perm=[0, 3, 1, 2])
        self.value = self.builder.node("Cast", [planar], "float", to=TensorProto.FLOAT)
        self.channels = 3

    def conv(self, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> Sketch:
        """Convolution with "same" padding as Keras does it, positive weights."""
        total = max((kernel - 1) * dilation + 1 - stride, 0)
        first, last = total // 2, total - total // 2
        weights = self.rng.uniform(0.05, 0.3, (out, self.channels, kernel, kernel))
        return self._weighted(
            "Conv", weights, out,
            kernel_shape=[kernel] * 2, strides=[stride] * 2, dilations=[dilation] * 2,
            pads=[first, first, last, last],
        )  # fmt: skip

    def conv_transpose(self, out: int, kernel: int = 2, stride: int = 2) -> Sketch:
        """Transposed convolution with "same" padding, positive weights."""
        first = (kernel - stride) // 2
        last = kernel - stride - first
        weights = self.rng.uniform(0.05, 0.3, (self.channels, out, kernel, kernel))
        return self._weighted(
            "ConvTranspose", weights, out,
            kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[first, first, last, last],
        )  # fmt: skip

    def batch_norm(self) -> Sketch:
        """BatchNormalization with statistics that matter."""
        shape = self.channels
        parts = [
            self.rng.uniform(0.5, 2, shape), self.rng.normal(0, 1, shape),
            self.rng.normal(0, 1, shape), self.rng.uniform(0.1, 2, shape),
        ]  # fmt: skip
        names = [self.constant(part, "statistic") for part in parts]
        return self.node("BatchNormalization", [self.value, *names], epsilon=1e-3)

    def by_constant(self, op: str, value: float | list[float]) -> Sketch:
        """Mul or Add of a number, or of one number a channel."""
        array = np.asarray(value, np.float32).reshape(-1, 1, 1)
        return self.node(op, [self.value, self.constant(array, "by")])

    def node(self, op: str, inputs: list[str] | None = None, **attributes: Any) -> Sketch:
        """Any other operator."""
        self.value = self.builder.node(op, inputs or [self.value], op.lower(), **attributes)
        return self

    def constant(self, value: NDArray[Any], name: str) -> str:
        """Float constant."""
        return self.builder.constant(value.astype(np.float32), name)

    def model(self) -> onnx.ModelProto:
        """Close the graph with the Transpose to NHWC."""
        self.builder.node("Transpose", [self.value], "packed", output=OUTPUT, perm=[0, 2, 3, 1])
        return self.builder.model(self.channels)

    def _weighted(self, op: str, weights: NDArray[Any], out: int, **attributes: Any) -> Sketch:
        operands = [self.value, self.constant(weights, "kernel")]
        operands.append(self.constant(self.rng.normal(0, 0.5, out), "bias"))
        self.channels = out
        return self.node(op, operands, **attributes)


def run_onnx(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run a graph on uint8 images (N, H, W, 3)."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options)
    (result,) = session.run(None, {INPUT: images})
    return np.asarray(result, np.float32)


def noise(n: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Images of random bytes."""
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), np.uint8)


def ops(model: onnx.ModelProto) -> list[str]:
    """Operators in their order."""
    return [node.op_type for node in model.graph.node]
