"""What NVIDIA's management library says of the GPUs, asked through ctypes.

The library comes with the driver. Where it is missing, or a GPU does not answer a question (an
integrated one of a Jetson answers few), the answer is None.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

__all__ = ["Library", "find_library"]

_OK = 0
_NAMES = {"win32": "nvml.dll"}
_DEFAULT_NAME = "libnvidia-ml.so.1"
_TEXT_BYTES = 96
_MOST_PROCESSES = 256
_GRAPHICS_CLOCK = 0


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class Library:
    """The library, opened, and handles of all GPUs.

    Parameters
    ----------
    library : object
        The shared library, or something that answers like it.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._handles: list[Any] = []
        count = ctypes.c_uint()
        if library.nvmlInit_v2() != _OK or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == _OK:
                self._handles.append(handle)

    def joules(self) -> float | None:
        """Energy of all GPUs since the driver was loaded."""
        each = [
            self._ask(gpu, "TotalEnergyConsumption", ctypes.c_ulonglong) for gpu in self._handles
        ]
        known = [value for value in each if value is not None]
        return sum(known) / 1e3 if known else None

    def own_memory_mb(self) -> float | None:
        """Memory that this process has on the GPUs, MiB."""
        used = [self._own_bytes(gpu) for gpu in self._handles]
        known = [value for value in used if value is not None]
        return sum(known) / 2**20 if known else None

    def gpus(self) -> list[dict[str, Any]]:
        """Name, memory, driver, clock and power limit of each GPU."""
        driver = self._text("nvmlSystemGetDriverVersion")
        return [self._facts(gpu) | {"driver": driver} for gpu in self._handles]

    def _facts(self, gpu: Any) -> dict[str, Any]:
        memory = _Memory()
        known = self._call("nvmlDeviceGetMemoryInfo", gpu, ctypes.byref(memory))
        limit = self._ask(gpu, "PowerManagementLimit", ctypes.c_uint)
        clock = ctypes.c_uint()
        has_clock = self._call(
            "nvmlDeviceGetMaxClockInfo", gpu, _GRAPHICS_CLOCK, ctypes.byref(clock)
        )
        return {
            "name": self._text("nvmlDeviceGetName", gpu),
            "memory_mb": memory.total // 2**20 if known else None,
            "power_limit_w": None if limit is None else limit / 1e3,
            "max_clock_mhz": clock.value if has_clock else None,
        }

    def _own_bytes(self, gpu: Any) -> int | None:
        count = ctypes.c_uint(_MOST_PROCESSES)
        found = (_Process * _MOST_PROCESSES)()
        name = "nvmlDeviceGetComputeRunningProcesses_v3"
        if not self._call(name, gpu, ctypes.byref(count), found):
            return None
        own = [item.used for item in found[: count.value] if item.pid == os.getpid()]
        return sum(own) if own else None

    def _ask(self, gpu: Any, what: str, kind: Any) -> int | None:
        answer = kind()
        known = self._call(f"nvmlDeviceGet{what}", gpu, ctypes.byref(answer))
        return int(answer.value) if known else None

    def _text(self, function: str, *arguments: Any) -> str | None:
        buffer = ctypes.create_string_buffer(_TEXT_BYTES)
        known = self._call(function, *arguments, buffer, _TEXT_BYTES)
        return buffer.value.decode("utf-8", "replace") if known else None

    def _call(self, function: str, *arguments: Any) -> bool:
        """Tell whether the library has the function and it answered."""
        found = getattr(self._library, function, None)
        return found is not None and found(*arguments) == _OK


def find_library() -> Library | None:
    """Open the library; None where there is no NVIDIA driver."""
    try:
        return Library(ctypes.CDLL(_NAMES.get(sys.platform, _DEFAULT_NAME)))
    except OSError:
        return None
