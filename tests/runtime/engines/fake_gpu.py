"""A GPU's driver and a TensorRT in plain Python: "device" memory is the machine's own.

What they cannot show is what a GPU does; what they do show is that calls come in the right order,
that nothing is overwritten or leaked, and that a recording is launched instead of single calls.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np

from cellseg.runtime.engines.cuda import Device
from cellseg.runtime.engines.tensorrt_api import Built

RTX_4070 = Device("NVIDIA GeForce RTX 4070", "8.9", 12282, 13010, integrated=False)
ORIN = Device("Orin", "8.7", 62840, 12060, integrated=True)


def value(argument: Any) -> Any:
    """Plain value of a ctypes argument."""
    return argument.value if hasattr(argument, "value") else argument


class FakeDriver:
    """The functions of libcuda that `Cuda` calls."""

    def __init__(self, device: Device = RTX_4070, gpus: int = 1, can_record: bool = True) -> None:
        self.device, self.gpus, self.can_record = device, gpus, can_record
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.graphs: dict[int, list[Any]] = {}
        self.recording: dict[int, list[Any]] = {}
        self.launches = 0
        self.contexts = 0
        self.threads: set[int] = set()
        self._next = 0x7F0000000000  # handles as large as real ones

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the driver was asked for {name}")

    def cuInit(self, _flags: int) -> int:
        return 0

    def cuGetErrorName(self, _status: int, text: Any) -> int:
        text._obj.value = b"CUDA_ERROR_FAKE"
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, device: Any, _ordinal: int) -> int:
        device._obj.value = 0
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.device.driver
        return 0

    def cuDeviceGetName(self, name: Any, _size: int, _device: int) -> int:
        name.value = self.device.name.encode()
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, _device: int) -> int:
        size._obj.value = self.device.memory_mb * 2**20
        return 0

    def cuDeviceGetAttribute(self, found: Any, number: int, _device: int) -> int:
        major, minor = map(int, self.device.capability.split("."))
        found._obj.value = {75: major, 76: minor, 18: int(self.device.integrated)}[number]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, _device: int) -> int:
        self.contexts += 1
        context._obj.value = self._handle()
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, _device: int) -> int:
        self.contexts -= 1
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        assert value(context)
        self.threads.add(threading.get_ident())
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        return self._allocate(address, size)

    def cuMemFree_v2(self, address: Any) -> int:
        del self.memory[value(address)]
        return 0

    def cuMemHostAlloc(self, address: Any, size: Any, _flags: int) -> int:
        return self._allocate(address, size)

    def cuMemHostGetDevicePointer_v2(self, found: Any, address: Any, _flags: int) -> int:
        found._obj.value = value(address)
        return 0

    def cuMemFreeHost(self, address: Any) -> int:
        del self.memory[value(address)]
        return 0

    def cuStreamCreate(self, stream: Any, _flags: int) -> int:
        stream._obj.value = self._handle()
        self.streams.add(stream._obj.value)
        return 0

    def cuStreamDestroy_v2(self, stream: Any) -> int:
        self.streams.remove(value(stream))
        return 0

    def cuStreamSynchronize(self, stream: Any) -> int:
        return 901 if value(stream) in self.recording else 0

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        return self.queue(stream, lambda: ctypes.memmove(value(to), value(source), value(size)))

    def cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        return self.queue(stream, lambda: ctypes.memmove(value(to), value(source), value(size)))

    def cuStreamBeginCapture_v2(self, stream: Any, _mode: int) -> int:
        self.recording[value(stream)] = []
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        steps = self.recording.pop(value(stream), None)
        if steps is None or not self.can_record:
            return 901
        graph._obj.value = self._handle()
        self.graphs[graph._obj.value] = steps
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, _flags: Any) -> int:
        executable._obj.value = self._handle()
        self.graphs[executable._obj.value] = self.graphs[value(graph)]
        return 0

    def cuGraphDestroy(self, graph: Any) -> int:
        del self.graphs[value(graph)]
        return 0

    def cuGraphExecDestroy(self, graph: Any) -> int:
        del self.graphs[value(graph)]
        return 0

    def cuGraphLaunch(self, graph: Any, _stream: Any) -> int:
        self.launches += 1
        for step in self.graphs[value(graph)]:
            step()
        return 0

    def queue(self, stream: Any, step: Any) -> int:
        """Do a step, or record it."""
        recorded = self.recording.get(value(stream))
        if recorded is None:
            step()
        else:
            recorded.append(step)
        return 0

    def _allocate(self, address: Any, size: Any) -> int:
        buffer = ctypes.create_string_buffer(value(size))
        address._obj.value = ctypes.addressof(buffer)
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0

    def _handle(self) -> int:
        self._next += 16
        return self._next


class FakeTensorRt:
    """What `TensorRt` offers; its engine's foreground is the green channel."""

    is_rtx = False
    name = "TensorRT"

    def __init__(self, driver: FakeDriver, version: str = "10.3.0") -> None:
        self.driver, self.version = driver, version
        self.built: list[tuple[int, int]] = []
        self.timings: list[bytes] = []
        self.module = Module()

    def build(
        self,
        onnx: bytes,
        tile_hw: tuple[int, int],
        capability: str | None = None,
        timing: bytes = b"",
    ) -> Built:
        assert capability is None
        self.built.append(tile_hw)
        self.timings.append(timing)
        plan = f"{self.version} {tile_hw[0]} {tile_hw[1]}".encode()
        return Built(plan, None, ("stem",), b"measured")

    def open_engine(self, plan: bytes) -> Any:
        version, height, width = plan.decode().split()
        return FakeEngine(self, (int(height), int(width))) if version == self.version else None

    def inspect(self, engine: Any) -> Any:
        from cellseg.runtime.engines.tensorrt_layers import EngineLayer

        return (EngineLayer("stem", "CaskConvolution", ("int8",), ("int8",), ("stem",)),)


class Module:
    """Names that are looked up in the package."""

    __name__ = "tensorrt"

    class TensorIOMode:
        INPUT, OUTPUT = "in", "out"


class FakeEngine:
    num_io_tensors = 2

    def __init__(self, tensorrt: FakeTensorRt, tile_hw: tuple[int, int]) -> None:
        self.tensorrt, self.tile_hw = tensorrt, tile_hw

    def get_tensor_name(self, index: int) -> str:
        return ("image", "probabilities")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "image" else "out"

    def get_tensor_shape(self, _name: str) -> tuple[int, ...]:
        return (1, *self.tile_hw, 2)

    def create_execution_context(self) -> FakeContext:
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert (name, shape) == ("image", (1, *self.engine.tile_hw, 3))
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.engine.tensorrt.driver.queue(stream, self._compute)
        return True

    def _compute(self) -> None:
        height, width = self.engine.tile_hw
        tile = _array(self.addresses["image"], height * width * 3, ctypes.c_uint8)
        out = _array(self.addresses["probabilities"], height * width * 2, ctypes.c_float)
        sure = tile.reshape(height, width, 3)[..., 1].astype(np.float32) / np.float32(255)
        out.reshape(height, width, 2)[:] = np.stack([1 - sure, sure], -1)


def _array(address: int, size: int, kind: Any) -> Any:
    return np.ctypeslib.as_array((kind * size).from_address(address))
