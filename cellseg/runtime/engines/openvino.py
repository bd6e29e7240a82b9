"""OpenVINO on the CPU: the fastest engine on x86, int8 files included.

The model is compiled for one tile shape in throughput mode: OpenVINO divides its threads into
streams, each of which computes a tile of its own, and says how many requests keep them all busy
(``concurrency``). Requests wait in a pool; each call takes one, points it at the caller's arrays
and gives it back, so nothing is copied and a result is never overwritten by the next tile.

Of a tile with a halo only what is looked at is computed in the decoder, if the model is a UNet
(`cellseg.runtime.engines.openvino_trim`). Camera frames, of which all is looked at, do without.

What was compiled is kept in the cache folder, with how to cut it: opening it again takes a tenth of
the time.

``fp32`` and ``int8`` forbid bf16, which OpenVINO otherwise uses by itself on processors that have
it. ``bf16`` asks for it, and is refused where the processor would only emulate it.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import queue
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import EngineError
from cellseg.runtime.engines.base import ForkedError
from cellseg.runtime.engines.openvino_blocks import spread_by_convolution
from cellseg.runtime.engines.openvino_bytes import round_once
from cellseg.runtime.engines.openvino_cache import (
    compiled_key,
    forget_compiled,
    recall_compiled,
    store_compiled,
)
from cellseg.runtime.engines.openvino_ends import float_first, spread_last
from cellseg.runtime.engines.openvino_trim import Trimmer, make_trimmable
from cellseg.runtime.engines.trim import NOTHING, Output, Sides
from cellseg.runtime.engines.untold import untold
from cellseg.runtime.machine.facts import this_machine

with untold():
    import openvino as ov

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.engines.base import EngineOptions

__all__ = ["OpenVinoEngine"]

_LOG = logging.getLogger(__name__)
_DEVICE = "CPU"


class OpenVinoEngine:
    """One ONNX model compiled by OpenVINO. See `Engine` for what is promised."""

    name = "openvino"
    device = "cpu"

    def __init__(self, model: bytes, options: EngineOptions) -> None:
        self._options = options
        _check_process()
        _check_precision(options.precision)
        try:
            compiled, trimmer = _opened(model, options)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO {ov.__version__} must be able to compile the model for tiles of "
                f"{options.input_shape}. Received: {error}."
            ) from error
        self.concurrency = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._compiled: Any = compiled
        self._trimmer = trimmer
        self._bounds: dict[Sides, list[Any]] = {}
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
        result = self._options.output_for(out)
        self._run(tile, result, NOTHING)
        return result

    def infer_trimmed(
        self, tile: NDArray[np.uint8], out: NDArray[np.float32] | None, unseen: Sides
    ) -> Output:
        """Run one tile, without what is not looked at; see `Trimming.infer_trimmed`."""
        memory = self._options.output_for(out)
        left_out = NOTHING if self._trimmer is None else self._trimmer.left_out(unseen)
        height, width = left_out.within(self.tile_hw)
        shape = (height, width, self._options.channels)
        result = memory.reshape(-1)[: math.prod(shape)].reshape(shape)
        self._run(tile, result, unseen)
        return Output(result, (left_out.top, left_out.left))

    def _run(self, tile: NDArray[np.uint8], result: NDArray[np.float32], unseen: Sides) -> None:
        if self._compiled is None:
            raise EngineError("A closed engine cannot infer. Received: infer after close.")
        _check_process()
        batch, bounds = self._options.batch_of(tile), self._bounds_of(unseen)
        request = self._requests.get()
        try:
            request.run(batch, bounds, self._outputs(result[np.newaxis], unseen))
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on a tile. Received: {error}.") from error
        finally:
            self._requests.put(request)

    def _bounds_of(self, unseen: Sides) -> list[Any]:
        """Return the model's further inputs; a plan has a handful of different ones."""
        if self._trimmer is None:
            return []
        if unseen not in self._bounds:
            self._bounds[unseen] = [ov.Tensor(row) for row in self._trimmer.cuts(unseen)]
        return self._bounds[unseen]

    def _outputs(self, result: NDArray[np.float32], unseen: Sides) -> list[NDArray[np.float32]]:
        """Divide the result among the model's outputs."""
        if self._trimmer is None:
            return [result]
        return [result[:, rows] for rows in self._trimmer.rows(unseen)]

    def close(self) -> None:
        """Release requests and model."""
        self._requests = queue.LifoQueue()
        self._compiled = None


class _Request:
    """An infer request and the arrays it points at, kept alive as long as it does."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._arrays: tuple[Any, ...] = ()

    def run(
        self, batch: NDArray[np.uint8], bounds: list[Any], outputs: list[NDArray[np.float32]]
    ) -> None:
        if not batch.flags.writeable:
            batch = batch.copy()  # OpenVINO refuses to look at what it may not write to
        self._request.set_input_tensor(0, ov.Tensor(batch, shared_memory=True))
        for number, bound in enumerate(bounds, 1):
            self._request.set_input_tensor(number, bound)
        for number, output in enumerate(outputs):
            self._request.set_output_tensor(number, ov.Tensor(output, shared_memory=True))
        self._arrays = (batch, outputs)
        self._request.infer()


@functools.cache
def _core() -> Any:
    return ov.Core()


@functools.cache
def _first_process() -> int:
    """Return the process that used OpenVINO first: this one, or one that it was forked from."""
    return os.getpid()


def _check_process() -> None:
    """Refuse a fork of a process that has used OpenVINO: no threads come along, and it waits."""
    if os.getpid() != _first_process():
        raise ForkedError(
            "A forked process must not use OpenVINO if its parent has used it before. "
            f"Received: process={os.getpid()}, forked from {_first_process()}.",
            hint="Start processes with multiprocessing.get_context('spawn').",
        )


def _opened(model: bytes, options: EngineOptions) -> tuple[Any, Trimmer | None]:
    """Open what was compiled before, or compile it and keep it."""
    settings = _settings(options)
    key = compiled_key(model, options, settings, ov.__version__)
    if (kept := recall_compiled(key)) is not None:
        try:
            return _core().import_model(kept.data, _DEVICE, settings), kept.trimmer
        except RuntimeError as error:
            _LOG.warning("a kept OpenVINO model does not open any more: %s", error)
            forget_compiled(key)
    compiled, trimmer = _compile(model, options)
    store_compiled(key, compiled.export_model(), trimmer)
    return compiled, trimmer


def _compile(model: bytes, options: EngineOptions) -> tuple[Any, Trimmer | None]:
    graph = _core().read_model(model)
    graph.reshape({graph.input(0): list(options.input_shape)})
    options.check_output(graph.output(0).shape, "OpenVINO")
    float_first(graph)
    round_once(graph)
    if options.precision != "int8" or _transposes_in_bytes():
        spread_by_convolution(graph)
    trimmer = None if options.one_at_a_time else make_trimmable(graph)
    spread_last(graph)
    return _core().compile_model(graph, _DEVICE, _settings(options)), trimmer


def _transposes_in_bytes() -> bool:
    """Whether OpenVINO has transposed convolutions of bytes here; with AVX2 alone they are float.

    Where the system does not tell what the processor can do, it is taken to have them.
    """
    flags = this_machine().cpu_flags or ()
    return "avx2" not in flags or "avx512" in flags or "vnni" in flags


def _settings(options: EngineOptions) -> dict[str, Any]:
    settings = {
        "PERFORMANCE_HINT": "LATENCY" if options.one_at_a_time else "THROUGHPUT",
        "INFERENCE_NUM_THREADS": options.threads,
        "INFERENCE_PRECISION_HINT": "bf16" if options.precision == "bf16" else "f32",
        # Decoding and stitching share the cores, and a second process would pin to the same.
        "ENABLE_CPU_PINNING": False,
    }
    if options.most_at_once is not None:
        settings["PERFORMANCE_HINT_NUM_REQUESTS"] = options.most_at_once
    return settings


def _check_precision(precision: str) -> None:
    if precision != "bf16":
        return
    found = list(_core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))
    if "BF16" not in found:
        raise EngineError(
            f"precision 'bf16' needs a processor with bf16 instructions. Received: {found}.",
            hint="Use --precision fp32 or int8 on this machine.",
        )
