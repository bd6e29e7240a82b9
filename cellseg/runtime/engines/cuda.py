"""The little of CUDA that an engine needs: the device, memory, one stream, one graph.

Calls the driver's own library (``libcuda``), which is there wherever a GPU is usable and has had
the same functions since CUDA 10: no package to install, and the same code for CUDA 12 beside
JetPack 6 and CUDA 13 beside JetPack 7. TensorRT works in the same primary context.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass
from typing import Any

from cellseg.errors import EngineError

__all__ = ["Cuda", "Device", "gpu_obstacle"]

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED
_PORTABLE, _MAPPED = 1, 2  # CU_MEMHOSTALLOC_PORTABLE, _DEVICEMAP
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
_HINT = "Install or update NVIDIA's driver; 'nvidia-smi' must list the GPU."


@dataclass(frozen=True)
class Device:
    """A GPU, as far as an engine depends on it."""

    name: str
    """E.g. ``NVIDIA GeForce RTX 4070``."""

    capability: str
    """Compute capability, e.g. ``8.9``."""

    memory_mb: int
    """Its memory, MiB; that of the whole board on a Jetson."""

    driver: int
    """CUDA version of the driver, e.g. 13010."""

    integrated: bool
    """Whether it shares its memory with the CPU, as on a Jetson: then nothing need be copied."""


class Cuda:
    """The driver's functions, in the primary context of the first GPU.

    A context belongs to a thread: call `enter` first on each thread that uses other methods than
    `device`.

    Raises
    ------
    EngineError
        If there is no driver or no GPU.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = _load() if library is None else library
        self._call("cuInit", 0)
        if self._int("cuDeviceGetCount") < 1:
            raise EngineError("TensorRT needs an NVIDIA GPU. Received: none.", hint=_HINT)
        self._device = self._int("cuDeviceGet", 0)
        # Not before `enter`: a context takes memory of the GPU, and does not survive a fork.
        self._context: int | None = None

    def enter(self) -> None:
        """Make the context that of the calling thread."""
        if self._context is None:
            self._context = self._pointer("cuDevicePrimaryCtxRetain", self._device)
        self._call("cuCtxSetCurrent", self._context)

    @property
    def device(self) -> Device:
        """What the GPU is."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self._device)
        memory = ctypes.c_size_t()
        self._call("cuDeviceTotalMem_v2", ctypes.byref(memory), self._device)
        major, minor = (self._attribute(number) for number in _CAPABILITY)
        return Device(
            name=name.value.decode(),
            capability=f"{major}.{minor}",
            memory_mb=memory.value // 2**20,
            driver=self._int("cuDriverGetVersion"),
            integrated=bool(self._attribute(_INTEGRATED)),
        )

    def allocate(self, size: int) -> int:
        """Memory on the GPU; its address."""
        return self._address("cuMemAlloc_v2", ctypes.c_size_t(size))

    def free(self, address: int) -> None:
        """Give memory on the GPU back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def allocate_pinned(self, size: int) -> int:
        """Page-locked memory of the CPU, mapped for the GPU; its address for the CPU."""
        return self._pointer("cuMemHostAlloc", ctypes.c_size_t(size), _PORTABLE | _MAPPED)

    def address_on_gpu(self, pinned: int) -> int:
        """Address under which the GPU sees page-locked memory."""
        return self._address("cuMemHostGetDevicePointer_v2", ctypes.c_void_p(pinned), 0)

    def free_pinned(self, address: int) -> None:
        """Give page-locked memory back."""
        self._call("cuMemFreeHost", ctypes.c_void_p(address))

    def stream(self) -> int:
        """Create a queue of work; its handle."""
        return self._pointer("cuStreamCreate", _NON_BLOCKING)

    def copy_in(self, address: int, pinned: int, size: int, stream: int) -> None:
        """Queue a copy to the GPU."""
        self._call(
            "cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), ctypes.c_void_p(pinned),
            ctypes.c_size_t(size), ctypes.c_void_p(stream),
        )  # fmt: skip

    def copy_out(self, pinned: int, address: int, size: int, stream: int) -> None:
        """Queue a copy from the GPU."""
        self._call(
            "cuMemcpyDtoHAsync_v2", ctypes.c_void_p(pinned), ctypes.c_uint64(address),
            ctypes.c_size_t(size), ctypes.c_void_p(stream),
        )  # fmt: skip

    def wait(self, stream: int) -> None:
        """Wait until a queue is empty."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def free_stream(self, stream: int) -> None:
        """Destroy a queue."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def begin_capture(self, stream: int) -> None:
        """Record what is queued from now on by this thread instead of doing it."""
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Return what was recorded, ready to launch."""
        graph = self._pointer("cuStreamEndCapture", before=(ctypes.c_void_p(stream),))
        try:
            return self._pointer("cuGraphInstantiateWithFlags", ctypes.c_void_p(graph),
                                 ctypes.c_ulonglong(0))  # fmt: skip
        finally:
            self._call("cuGraphDestroy", ctypes.c_void_p(graph))

    def launch(self, graph: int, stream: int) -> None:
        """Queue what was recorded."""
        self._call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def free_graph(self, graph: int) -> None:
        """Destroy a recording."""
        self._call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def close(self) -> None:
        """Leave the context; what was allocated must have been freed."""
        if self._context is not None:
            self._call("cuDevicePrimaryCtxRelease_v2", self._device)
        self._context = None

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, self._device)
        return value.value

    def _int(self, function: str, *arguments: Any) -> int:
        value = ctypes.c_int()
        self._call(function, ctypes.byref(value), *arguments)
        return value.value

    def _address(self, function: str, *arguments: Any) -> int:
        value = ctypes.c_uint64()
        self._call(function, ctypes.byref(value), *arguments)
        return value.value

    def _pointer(self, function: str, *arguments: Any, before: tuple[Any, ...] = ()) -> int:
        value = ctypes.c_void_p()
        self._call(function, *before, ctypes.byref(value), *arguments)
        return value.value or 0

    def _call(self, function: str, *arguments: Any) -> None:
        arguments = tuple(_as_handle(argument) for argument in arguments)
        status = int(getattr(self._library, function)(*arguments))
        if status:
            raise EngineError(
                f"The GPU must do what it is asked. Received: {function}: {self._name(status)}.",
                hint=_HINT if function == "cuInit" else "See 'nvidia-smi' for memory and state.",
            )

    def _name(self, status: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorName(status, ctypes.byref(text))
        return (text.value or b"").decode() or f"error {status}"


@functools.cache
def gpu_obstacle() -> str | None:
    """Say why no NVIDIA GPU can be used here; None where one can."""
    try:
        Cuda()
    except EngineError as error:
        return str(error)
    return None


def _load() -> Any:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise EngineError(
            f"TensorRT needs NVIDIA's driver. Received: no {_LIBRARY}.", hint=_HINT
        ) from error


def _as_handle(argument: Any) -> Any:
    """Pass handles beyond 32 bits as pointers: ctypes would cut them to C ints."""
    is_big = isinstance(argument, int) and argument > 0x7FFFFFFF
    return ctypes.c_void_p(argument) if is_big else argument
