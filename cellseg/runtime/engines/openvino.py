"""OpenVINO on the CPU: the fastest engine on x86, int8 files included.

The model is compiled for one tile shape in throughput mode: OpenVINO divides its threads into
streams, each of which computes a tile of its own, and says how many requests keep them all busy
(``concurrency``). Requests wait in a pool; each call takes one, points it at the caller's arrays
and gives it back, so nothing is copied and a result is never overwritten by the next tile.

``fp32`` and ``int8`` forbid bf16, which OpenVINO otherwise uses by itself on processors that have
it. ``bf16`` asks for it, and is refused where the processor would only emulate it.
"""

from __future__ import annotations

import functools
import queue
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from cellseg.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.engines.base import EngineOptions

__all__ = ["OpenVinoEngine"]

_DEVICE = "CPU"


class OpenVinoEngine:
    """One ONNX model compiled by OpenVINO. See `Engine` for what is promised."""

    name = "openvino"
    device = "cpu"

    def __init__(self, model: bytes, options: EngineOptions) -> None:
        self._options = options
        _check_precision(options.precision)
        try:
            compiled = _compile(model, options)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO {ov.__version__} must be able to compile the model for tiles of "
                f"{options.input_shape}. Received: {error}."
            ) from error
        options.check_output(compiled.output(0).shape, "OpenVINO")
        self.concurrency = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._compiled: Any = compiled
        self._requests: queue.LifoQueue[_Request] = queue.LifoQueue()
        for _ in range(self.concurrency):
            self._requests.put(_Request(compiled.create_infer_request()))

    @property
    def precision(self) -> str:
        """Precision it was opened for."""
        return self._options.precision

    @property
    def tile_hw(self) -> tuple[int, int]:
        """Height and width of every tile."""
        return self._options.tile_hw

    def infer(
        self, tile: NDArray[np.uint8], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Run one tile; see `Engine.infer`."""
        if self._compiled is None:
            raise EngineError("A closed engine cannot infer. Received: infer after close.")
        batch, result = self._options.batch_of(tile), self._options.output_for(out)
        request = self._requests.get()
        try:
            request.run(batch, result[np.newaxis])
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on a tile. Received: {error}.") from error
        finally:
            self._requests.put(request)
        return result

    def close(self) -> None:
        """Release requests and model."""
        self._requests = queue.LifoQueue()
        self._compiled = None


class _Request:
    """An infer request and the arrays it points at, kept alive as long as it does."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._arrays: tuple[Any, ...] = ()

    def run(self, batch: NDArray[np.uint8], result: NDArray[np.float32]) -> None:
        if not batch.flags.writeable:
            batch = batch.copy()  # OpenVINO refuses to look at what it may not write to
        self._request.set_input_tensor(ov.Tensor(batch, shared_memory=True))
        self._request.set_output_tensor(ov.Tensor(result, shared_memory=True))
        self._arrays = (batch, result)
        self._request.infer()


@functools.cache
def _core() -> Any:
    return ov.Core()


def _compile(model: bytes, options: EngineOptions) -> Any:
    graph = _core().read_model(model)
    graph.reshape({graph.input(0): list(options.input_shape)})
    return _core().compile_model(
        graph,
        _DEVICE,
        {
            "PERFORMANCE_HINT": "LATENCY" if options.one_at_a_time else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": options.threads,
            "INFERENCE_PRECISION_HINT": "bf16" if options.precision == "bf16" else "f32",
            # Decoding and stitching share the cores, and a second process would pin to the same.
            "ENABLE_CPU_PINNING": False,
        },
    )


def _check_precision(precision: str) -> None:
    if precision != "bf16":
        return
    found = list(_core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))
    if "BF16" not in found:
        raise EngineError(
            f"precision 'bf16' needs a processor with bf16 instructions. Received: {found}.",
            hint="Use --precision fp32 or int8 on this machine.",
        )
