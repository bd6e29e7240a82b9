"""ONNX Runtime on the CPU: runs everywhere, the reference for the others.

One session computes one tile at a time with all its threads (``concurrency`` is 1): a second tile
beside it would share the same threads and hold a second set of activations. ``run`` itself is
thread-safe, so further callers are welcome. Results are written straight into the caller's array.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from cellseg.errors import EngineError
from cellseg.runtime.engines.untold import untold

with untold():
    import onnxruntime as ort

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.engines.base import EngineOptions

__all__ = ["OnnxRuntimeEngine"]

# Removing onnxruntime-gpu beside it leaves a folder that is imported as an empty module.
_VERSION = ort.__version__
_OPEN: WeakSet[Any] = WeakSet()


def _keep_for_ever() -> None:
    """Never release a session in a forked process: it would wait for threads that are not there."""
    for session in _OPEN:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))  # a list is emptied at the exit


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_for_ever)


class OnnxRuntimeEngine:
    """One ONNX model in an ONNX Runtime CPU session. See `Engine` for what is promised."""

    name = "onnxruntime"
    device = "cpu"
    concurrency = 1

    def __init__(self, model: bytes, options: EngineOptions) -> None:
        self._options = options
        try:
            self._session: Any = ort.InferenceSession(
                model, _session_options(options), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base of their own
            raise EngineError(
                f"ONNX Runtime {_VERSION} must be able to load the model. Received: {error}."
            ) from error
        _OPEN.add(self._session)
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self._check_shape()

    @property
    def precision(self) -> str:
        """Precision it was opened for."""
        return self._options.precision

    @property
    def threads(self) -> int:
        """Threads that share the work of a tile."""
        return self._options.threads

    @property
    def tile_hw(self) -> tuple[int, int]:
        """Height and width of every tile."""
        return self._options.tile_hw

    def infer(
        self, tile: NDArray[np.uint8], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Run one tile; see `Engine.infer`."""
        session = self._session
        if session is None:
            raise EngineError("A closed engine cannot infer. Received: infer after close.")
        batch, result = self._options.batch_of(tile), self._options.output_for(out)
        binding = session.io_binding()
        binding.bind_cpu_input(self._input, batch)
        binding.bind_output(
            self._output,
            "cpu",
            element_type=np.float32,
            shape=self._options.output_shape,
            buffer_ptr=result.ctypes.data,
        )
        try:
            session.run_with_iobinding(binding)
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed on a tile. Received: {error}.") from error
        return result

    def close(self) -> None:
        """Release the session."""
        self._session = None

    def _check_shape(self) -> None:
        """Run one blank tile: bound buffers would be overrun by an output of another shape."""
        blank = np.zeros(self._options.input_shape, np.uint8)
        try:
            (result,) = self._session.run([self._output], {self._input: blank})
        except Exception as error:
            raise EngineError(
                f"The model must take a tile of {self._options.input_shape}. Received: {error}."
            ) from error
        self._options.check_output(result.shape, "ONNX Runtime")


def _session_options(options: EngineOptions) -> Any:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # Idle threads must not spin: decoding and stitching need the cores.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3
    for axis, size in zip("NHW", options.input_shape, strict=False):
        settings.add_free_dimension_override_by_name(axis, size)  # memory is planned once
    return settings
