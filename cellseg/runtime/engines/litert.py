"""LiteRT (once TensorFlow Lite) on the CPU: for ARM boards and phones.

The file is read by one interpreter, resized to the tile and planned once: its arena holds the
activations of one tile, whatever the number of callers. XNNPACK divides a tile among the threads,
so ``concurrency`` is 1 and further callers wait at a lock; the interpreter itself may be entered by
one thread at a time. Results are copied out of the arena, or computed from its bytes, before the
lock is given back, so they belong to the caller.

An int8 file takes the image's bytes as they are and gives bytes with a scale and a zero point of
its own, by which the adapter turns them to float32: ``(byte - zero_point) * scale``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from cellseg.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.engines.base import EngineOptions

__all__ = ["LiteRtEngine"]

_FILE_MARK = b"TFL3"  # at byte 4 of every such file


class LiteRtEngine:
    """One .tflite model in a LiteRT interpreter. See `Engine` for what is promised."""

    name = "litert"
    device = "cpu"
    concurrency = 1

    def __init__(self, model: bytes, options: EngineOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._interpreter: Any = _open(model, options)
        self._input = _only(self._interpreter.get_input_details(), "input")
        self._output = _only(self._interpreter.get_output_details(), "output")
        _check_input(self._input)
        self._levels = _Levels.of(self._output)
        options.check_output(self._output["shape"], "LiteRT")

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
        batch, result = self._options.batch_of(tile), self._options.output_for(out)
        with self._lock:
            interpreter = self._interpreter
            if interpreter is None:
                raise EngineError("A closed engine cannot infer. Received: infer after close.")
            # Views into the arena must be gone before the interpreter runs again.
            interpreter.tensor(self._input["index"])()[...] = batch
            try:
                interpreter.invoke()
            except RuntimeError as error:
                raise EngineError(f"LiteRT failed on a tile. Received: {error}.") from error
            self._levels.to_float(interpreter.tensor(self._output["index"])()[0], result)
        return result

    def close(self) -> None:
        """Release the interpreter."""
        self._interpreter = None


@dataclass(frozen=True)
class _Levels:
    """What the values of an output tensor stand for."""

    scale: np.float32
    zero_point: np.float32
    is_float: bool

    @classmethod
    def of(cls, details: dict[str, Any]) -> _Levels:
        scale, zero_point = details["quantization"]
        dtype = details["dtype"]
        if dtype not in (np.float32, np.uint8, np.int8) or (dtype != np.float32 and scale <= 0):
            raise EngineError(
                "A .tflite file must give float32, or bytes with a scale. "
                f"Received: dtype={np.dtype(dtype).name}, scale={scale}."
            )
        return cls(np.float32(scale), np.float32(zero_point), dtype == np.float32)

    def to_float(self, values: NDArray[Any], result: NDArray[np.float32]) -> None:
        """Fill result with what the values stand for."""
        if self.is_float:
            np.copyto(result, values)
            return
        # In float32 the difference of two bytes is exact; one rounding is left.
        np.subtract(values, self.zero_point, out=result)
        np.multiply(result, self.scale, out=result)


def _open(model: bytes, options: EngineOptions) -> Any:
    if model[4:8] != _FILE_MARK:
        raise EngineError(
            "LiteRT must be able to read the model. "
            f"Received: {len(model)} bytes that are no .tflite file."
        )
    try:
        interpreter = Interpreter(model_content=model, num_threads=options.threads)
        index = _only(interpreter.get_input_details(), "input")["index"]
        interpreter.resize_tensor_input(index, options.input_shape, strict=True)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise EngineError(
            "LiteRT must be able to open the model for tiles of "
            f"{options.input_shape}. Received: {error}."
        ) from error
    return interpreter


def _only(details: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    if len(details) != 1:
        raise EngineError(f"The model must have one {kind}. Received: {len(details)}.")
    return details[0]


def _check_input(details: dict[str, Any]) -> None:
    """Refuse a file that does not read bytes as they are."""
    if details["dtype"] != np.uint8 or details["quantization"] not in ((0.0, 0), (1.0, 0)):
        raise EngineError(
            "A .tflite file must take uint8, scale 1 and zero point 0. Received: "
            f"dtype={np.dtype(details['dtype']).name}, quantization={details['quantization']}.",
            hint="Export it again with 'cellseg-cli export --target tflite'.",
        )
