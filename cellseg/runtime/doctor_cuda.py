"""Which NVIDIA packages do not fit each other, or the driver, and what to do about it.

Facts, as of late 2026: ``onnxruntime-gpu`` since 1.27 is built for CUDA 13, and its TensorRT
provider loads ``libnvinfer.so.10`` whatever TensorRT is installed; ``tensorflow[and-cuda]`` brings
CUDA 12; ``tensorrt`` 11 brings ``libnvinfer.so.11``. So training and inference on one GPU want two
environments, and TensorRT 11 is not to be had through ONNX Runtime.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cellseg.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cellseg.runtime.engines.cuda import Device

    Version = Callable[[str], str | None]

__all__ = ["cuda_mismatches"]

_NATIVE = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
_CUDA_12 = ("nvidia-cuda-runtime-cu12", "tensorrt-cu12", "tensorrt-rtx-cu12")
_CUDA_13 = ("nvidia-cuda-runtime", "tensorrt-cu13", "tensorrt-rtx-cu13")
_ORT_CUDA_13 = (1, 27)
_TWO_ENVIRONMENTS = "keep two virtual environments: one to train (CUDA 12), one to run (CUDA 13)"


def cuda_mismatches(
    version: Version, device: Callable[[], Device | None] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield what does not fit, and its fix.

    Parameters
    ----------
    version : callable
        Version of an installed distribution, None if it is not installed.
    device : callable, optional
        The GPU, None if there is none; asked only if packages need one. By default the real one.
    """
    yield from _provider_and_library(version)
    yield from _two_cudas(version)
    packages = [name for name in (*_CUDA_12, *_CUDA_13) if version(name)]
    found = (device or _this_device)() if packages else None
    if found is not None:
        yield from _old_driver(version, found)
        yield from _old_gpu(version, found)


def _provider_and_library(version: Version) -> Iterator[tuple[str, str]]:
    ort = version("onnxruntime-gpu")
    native = next((found for name in _NATIVE if (found := version(name))), None)
    if ort and native and _numbers(native)[0] >= 11:
        yield (
            f"ONNX Runtime {ort} loads TensorRT as libnvinfer.so.10; TensorRT {native} is another.",
            "use --engine tensorrt, which needs no ONNX Runtime, "
            "or pip install 'tensorrt-cu13==10.16.*'",
        )


def _two_cudas(version: Version) -> Iterator[tuple[str, str]]:
    old = [name for name in _CUDA_12 if version(name)]
    new = [name for name in _CUDA_13 if _numbers(version(name) or "0")[0] and _is_13(name, version)]
    ort = version("onnxruntime-gpu")
    if ort and _numbers(ort) >= _ORT_CUDA_13:
        new.append("onnxruntime-gpu")
    if old and new:
        yield (
            f"Packages for CUDA 12 ({', '.join(old)}) lie beside those for 13 ({', '.join(new)}).",
            _TWO_ENVIRONMENTS,
        )


def _is_13(name: str, version: Version) -> bool:
    """Only ``nvidia-cuda-runtime`` does not say its CUDA in its name, but by its version."""
    return name != "nvidia-cuda-runtime" or _numbers(version(name) or "0")[0] >= 13


def _old_driver(version: Version, device: Device) -> Iterator[tuple[str, str]]:
    wants_13 = [name for name in _CUDA_13 if version(name) and _is_13(name, version)]
    if wants_13 and device.driver < 13000:
        major, minor = device.driver // 1000, device.driver % 1000 // 10
        yield (
            f"The driver offers CUDA {major}.{minor}; {', '.join(wants_13)} needs 13.",
            "update NVIDIA's driver to 580 or newer, or install the cu12 package instead",
        )


def _old_gpu(version: Version, device: Device) -> Iterator[tuple[str, str]]:
    is_rtx = any(version(name) for name in ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12"))
    if is_rtx and _numbers(device.capability) < (8, 0):
        yield (
            f"{device.name} has compute capability {device.capability}: TensorRT for RTX computes "
            "int8 in floating point below 8.0.",
            "use --precision fp16 on this GPU",
        )


def _this_device() -> Device | None:
    from cellseg.runtime.engines.cuda import Cuda

    try:
        return Cuda().device
    except EngineError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2]) or (0,)
