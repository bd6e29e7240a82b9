"""TensorRT on an NVIDIA GPU: the native one, or TensorRT for RTX, by what is installed.

The engine is built for this GPU and this tile the first time, which takes seconds (RTX) to minutes
(native), and kept in the cache folder; see `tensorrt_cache`. Two tiles are under way at a time
(``concurrency``), each with its own context, stream and buffers, so that copies of one hide behind
the other's computing. The work of a tile is recorded once as a CUDA graph and launched as a whole.

A discrete GPU gets pinned buffers and explicit copies. One that shares its memory with the CPU, as
on a Jetson, reads and writes the pinned buffers themselves.

Ownership and threads are those of `Engine`: results are copied out of the pinned buffers into the
caller's array before a call returns, and ``infer`` may be called from any number of threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import queue
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import EngineError
from cellseg.runtime.engines.built import digest_of
from cellseg.runtime.engines.cuda import Cuda
from cellseg.runtime.engines.tensorrt_api import TensorRt, find_tensorrt
from cellseg.runtime.engines.tensorrt_cache import PLANS, EngineKey
from cellseg.runtime.engines.tensorrt_layers import LayerReport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.engines.base import EngineOptions
    from cellseg.runtime.engines.cuda import Device

__all__ = ["TensorRtEngine", "obtain_engine"]

_LOG = logging.getLogger(__name__)
_SLOTS = 2


class TensorRtEngine:
    """One ONNX model as a TensorRT engine. See `Engine` for what is promised."""

    name = "tensorrt"
    concurrency = _SLOTS
    threads = 1  # of the CPU; they only wait

    def __init__(
        self,
        model: bytes,
        options: EngineOptions,
        tensorrt: TensorRt | None = None,
        cuda: Cuda | None = None,
    ) -> None:
        self._options = options
        self._tensorrt = find_tensorrt() if tensorrt is None else tensorrt
        self._cuda = Cuda() if cuda is None else cuda
        self._cuda.enter()
        device = self._cuda.device
        self.device = f"cuda:0 ({device.name})"
        key = engine_key(model, options.tile_hw, self._tensorrt, device)
        self._runtime_cache = f"{digest_of(key.plain)}.jit"
        self._engine: Any = obtain_engine(self._tensorrt, key, model)
        self._names = _io_names(self._tensorrt, self._engine)
        options.check_output(self._engine.get_tensor_shape(self._names[1]), self._tensorrt.name)
        self._config = self._runtime_config()
        self._slots: queue.LifoQueue[_Slot] = queue.LifoQueue()
        self._all = [self._slot(device.integrated) for _ in range(_SLOTS)]
        for slot in self._all:
            slot.prepare()
            self._slots.put(slot)
        self._save_runtime_cache()

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
        if self._engine is None:
            raise EngineError("A closed engine cannot infer. Received: infer after close.")
        batch, result = self._options.batch_of(tile), self._options.output_for(out)
        slot = self._slots.get()
        try:
            slot.run(batch[0], result)
        finally:
            self._slots.put(slot)
        return result

    def close(self) -> None:
        """Release buffers, streams and the engine."""
        if self._engine is None:
            return
        self._engine = None
        self._cuda.enter()
        for slot in self._all:
            slot.close()
        self._all, self._config = [], None
        self._cuda.close()

    def _slot(self, integrated: bool) -> _Slot:
        context = (
            self._engine.create_execution_context()
            if self._config is None
            else self._engine.create_execution_context(self._config[0])
        )
        if context is None:
            raise EngineError(
                "The GPU must have room for the engine. Received: no execution context.",
                hint="Use a smaller --tile, or close what else uses the GPU.",
            )
        options = self._options
        sizes = (int(np.prod(options.input_shape)), 4 * int(np.prod(options.output_shape)))
        buffers = (
            _Buffer(self._cuda, sizes[0], integrated),
            _Buffer(self._cuda, sizes[1], integrated),
        )
        return _Slot(self._cuda, context, self._names, options, buffers)

    def _runtime_config(self) -> Any:
        """For RTX: keep what it compiles at the first tile, so that the next start is quick."""
        if not self._tensorrt.is_rtx:
            return None
        config = self._engine.create_runtime_config()
        cache = config.create_runtime_cache()
        stored = PLANS.recall_extra(self._runtime_cache)
        if stored:
            cache.deserialize(stored)  # False, and empty, if it is of another version
        config.set_runtime_cache(cache)
        return config, cache

    def _save_runtime_cache(self) -> None:
        if self._config is not None:
            PLANS.store_extra(self._runtime_cache, bytes(self._config[1].serialize()))


class _Buffer:
    """Pinned memory, and the place where the GPU finds the same bytes."""

    def __init__(self, cuda: Cuda, size: int, integrated: bool) -> None:
        self._cuda, self.size = cuda, size
        self.pinned = cuda.allocate_pinned(size)
        self.is_shared = integrated
        self.address = cuda.address_on_gpu(self.pinned) if integrated else cuda.allocate(size)
        raw = (ctypes.c_uint8 * size).from_address(self.pinned)
        self.bytes: NDArray[np.uint8] = np.ctypeslib.as_array(raw)

    def close(self) -> None:
        if not self.is_shared:
            self._cuda.free(self.address)
        self._cuda.free_pinned(self.pinned)


class _Slot:
    """What one tile under way needs."""

    def __init__(
        self,
        cuda: Cuda,
        context: Any,
        names: tuple[str, str],
        options: EngineOptions,
        buffers: tuple[_Buffer, _Buffer],
    ) -> None:
        self._cuda, self._context = cuda, context
        self._input, self._output = buffers
        self._stream = cuda.stream()
        self._graph: int | None = None
        self._tile = self._input.bytes.reshape(options.input_shape[1:])
        self._result = self._output.bytes.view(np.float32).reshape(options.output_shape[1:])
        context.set_input_shape(names[0], options.input_shape)
        for name, buffer in zip(names, buffers, strict=True):
            context.set_tensor_address(name, buffer.address)

    def prepare(self) -> None:
        """Run once, which compiles and allocates what is put off till then; then record."""
        self._tile[:] = 0
        self._enqueue()
        self._cuda.wait(self._stream)
        self._cuda.begin_capture(self._stream)
        try:
            self._enqueue()
            self._graph = self._cuda.end_capture(self._stream)
        except EngineError as error:
            _LOG.info("TensorRT runs without a CUDA graph: %s", error)
            with contextlib.suppress(EngineError):  # ends a capture that is still open
                self._cuda.free_graph(self._cuda.end_capture(self._stream))

    def run(self, tile: NDArray[np.uint8], result: NDArray[np.float32]) -> None:
        self._cuda.enter()
        self._tile[:] = tile
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.launch(self._graph, self._stream)
        self._cuda.wait(self._stream)
        result[:] = self._result

    def close(self) -> None:
        if self._graph is not None:
            self._cuda.free_graph(self._graph)
        self._context = None
        self._cuda.free_stream(self._stream)
        self._input.close()
        self._output.close()

    def _enqueue(self) -> None:
        source, target = self._input, self._output
        if not source.is_shared:
            self._cuda.copy_in(source.address, source.pinned, source.size, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise EngineError("TensorRT must take a tile. Received: it refused to enqueue one.")
        if not target.is_shared:
            self._cuda.copy_out(target.pinned, target.address, target.size, self._stream)


def engine_key(
    model: bytes, tile_hw: tuple[int, int], tensorrt: TensorRt, device: Device
) -> EngineKey:
    """Return what an engine for this GPU is kept under."""
    return EngineKey(
        model_sha256=hashlib.sha256(model).hexdigest(),
        package=tensorrt.module.__name__,
        version=tensorrt.version,
        gpu=device.name,
        capability=device.capability,
        memory_mb=device.memory_mb,
        driver=device.driver,
        tile_hw=tile_hw,
    )


def obtain_engine(tensorrt: TensorRt, key: EngineKey, model: bytes) -> Any:
    """Open the engine kept under a key, or build it and keep it.

    Raises
    ------
    EngineError
        If it cannot be built, or what was built does not open.
    """
    kept = PLANS.recall(key.plain)
    if kept is not None:
        engine = tensorrt.open_engine(kept.data)
        if engine is not None:
            return engine
        PLANS.forget(key.plain)
        _LOG.warning("the kept TensorRT engine does not open any more; building it again")
    _LOG.info(
        "building a TensorRT engine for %s, tiles of %s; kept for next time", key.gpu, key.tile_hw
    )
    timing = f"{key.device_digest}.timing"
    built = tensorrt.build(model, key.tile_hw, timing=PLANS.recall_extra(timing))
    engine = tensorrt.open_engine(built.plan)
    if engine is None:
        raise EngineError(
            f"{tensorrt.name} must open what it built. Received: it refused.",
            hint="'cellseg-cli doctor' says what does not fit here.",
        )
    PLANS.store_extra(timing, built.timing)
    PLANS.store(key.plain, built.plan, _facts(tensorrt, engine, built.convolutions))
    return engine


def _facts(tensorrt: TensorRt, engine: Any, convolutions: tuple[str, ...]) -> dict[str, object]:
    """Describe the layers, for the file beside the engine; a listing not understood is no error."""
    try:
        report = LayerReport.of(tensorrt.inspect(engine), convolutions)
    except (EngineError, ValueError) as error:
        _LOG.info("the engine's layers are not known: %s", error)
        return {}
    if report.reformats or report.floats:
        _LOG.info(
            "TensorRT computes %d of %d convolutions in int8; %d layers only reformat",
            len(report.int8), len(report.convolutions), len(report.reformats),
        )  # fmt: skip
    return report.to_json()


def _io_names(tensorrt: TensorRt, engine: Any) -> tuple[str, str]:
    """Names of the only input and the only output."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    modes = tensorrt.module.TensorIOMode
    inputs = [name for name in names if engine.get_tensor_mode(name) == modes.INPUT]
    outputs = [name for name in names if engine.get_tensor_mode(name) == modes.OUTPUT]
    if len(inputs) != 1 or len(outputs) != 1:
        raise EngineError(f"An engine must have one input and one output. Received: {names}.")
    return inputs[0], outputs[0]
