"""Known mismatches of NVIDIA's packages are found, each with what mends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cellseg.runtime.doctor_cuda import cuda_mismatches
from cellseg.runtime.engines.cuda import Device
from tests.runtime.engines.fake_gpu import RTX_4070

TURING = replace(RTX_4070, name="RTX 2070", capability="7.5")
OLD = replace(RTX_4070, driver=12080)

FITTING = [
    {},
    {"onnxruntime-gpu": "1.31.1", "tensorrt-cu13": "10.16.1.11"},
    {"onnxruntime-gpu": "1.31.1", "tensorrt-rtx-cu13": "1.7.1"},
    {"tensorrt-cu13": "11.4.0.106"},
    {"nvidia-cuda-runtime-cu12": "12.6.77"},
]
CLASHING = [
    ({"onnxruntime-gpu": "1.31.1", "tensorrt": "11.4.0"}, RTX_4070, "libnvinfer.so.10", "10.16"),
    ({"onnxruntime-gpu": "1.31.1", "nvidia-cuda-runtime-cu12": "12.6"}, None, "CUDA 12", "two"),
    ({"tensorrt-cu12": "10.16", "nvidia-cuda-runtime": "13.0"}, None, "beside those for 13", "two"),
    ({"tensorrt-rtx-cu13": "1.7.1"}, OLD, "The driver offers CUDA 12.8", "cu12"),
    ({"tensorrt-rtx-cu13": "1.7.1"}, TURING, "floating point below 8.0", "fp16"),
]


@pytest.mark.parametrize("installed", FITTING, ids=str)
def test_what_fits_is_no_problem(installed: dict[str, str]) -> None:
    assert not [*cuda_mismatches(installed.get, lambda: RTX_4070)]


@pytest.mark.parametrize(("installed", "device", "what", "fix"), CLASHING, ids=str)
def test_what_clashes_is_named_with_its_fix(
    installed: dict[str, str], device: Device | None, what: str, fix: str
) -> None:
    ((said, mended),) = cuda_mismatches(installed.get, lambda: device)
    assert what in said
    assert fix in mended


def test_gpu_is_not_asked_for_where_no_package_needs_it() -> None:
    def asked() -> None:
        raise AssertionError("asked")

    assert not [*cuda_mismatches({}.get, asked)]
