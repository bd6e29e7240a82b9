"""Runs the int8 graph for TensorRT on the CPU, number for number as it stands.

There is no GPU where bundles are made, so a TensorRT engine's quality is that of its graph: Q/DQ
pairs computed literally in float32. Products of int8 and their int32 sums are exact in an engine;
what differs from here is float32 rounding (about 1e-6) and, rarely, a value that lands on the other
side of a rounding step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.export.onnx_graph.builder import INPUT
from cellseg.export.onnx_graph.tensors import literal_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.bundles.bundle import ModelCard

__all__ = ["SIMULATED", "SimulatedRunner"]

SIMULATED = "simulated"
"""What stands for the engine in the manifest's quality."""


class SimulatedRunner:
    """Runs a graph on images of any size; see `cellseg.export.judging.quality.Runner`.

    Parameters
    ----------
    model : bytes
        ONNX file.
    card : ModelCard
        Stride.
    threads : int
        Threads to compute with.
    """

    engine_name = SIMULATED

    def __init__(self, model: bytes, card: ModelCard, threads: int) -> None:
        self._session = literal_session(model, threads)
        self._stride = card.stride

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (H, W, 3) to float32 (H, W, C)."""
        height, width = image.shape[:2]
        rows, cols = (-size % self._stride for size in (height, width))
        padded = np.pad(image, ((0, rows), (0, cols), (0, 0)), mode="edge")
        (result,) = self._session.run(None, {INPUT: padded[np.newaxis]})
        return np.asarray(result[0, :height, :width], np.float32)

    def close(self) -> None:
        """Release the session."""
        self._session = None
