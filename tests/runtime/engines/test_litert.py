"""What is LiteRT's own: files in bytes, and files that do not fit. The rest is the contract's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from cellseg.errors import EngineError
from cellseg.runtime.engines import EngineOptions
from cellseg.runtime.engines.litert import LiteRtEngine, _check_input, _Levels
from tests.bundles import TINY_INT8_TFLITE, TINY_TFLITE

HW = (32, 48)
STEP = 1 / 256  # of a softmax in int8
TILE = np.random.default_rng(0).integers(0, 256, (*HW, 3), np.uint8)


def opened(model: bytes, precision: str = "fp32") -> LiteRtEngine:
    return LiteRtEngine(model, EngineOptions(precision, HW, 2, 1))


def test_bytes_become_what_they_stand_for() -> None:
    found = opened(TINY_INT8_TFLITE.read_bytes(), "int8").infer(TILE)
    expected = opened(TINY_TFLITE.read_bytes()).infer(TILE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.round(found / STEP) * np.float32(STEP))
    assert np.abs(found - expected).mean() < 4 * STEP


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_every_byte_is_exact(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    values = np.arange(limits.min, limits.max + 1, dtype=dtype)
    levels = _Levels.of({"dtype": dtype, "quantization": (0.0123, 7)})
    result = np.empty(256, np.float32)
    levels.to_float(values, result)
    expected = (values.astype(np.int64) - 7).astype(np.float32) * np.float32(0.0123)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("dtype", "quantization"),
    [(np.float32, (0.0, 0)), (np.uint8, (0.5, 0)), (np.uint8, (1.0, 128)), (np.int8, (1.0, -128))],
)
def test_file_that_reads_no_plain_bytes_is_refused(
    dtype: Any, quantization: tuple[float, int]
) -> None:
    with pytest.raises(EngineError, match="must take uint8, scale 1 and zero point 0"):
        _check_input({"dtype": dtype, "quantization": quantization})


@pytest.mark.parametrize("details", [(np.int16, (0.1, 0)), (np.int8, (0.0, 0))])
def test_result_without_a_meaning_is_refused(details: tuple[Any, tuple[float, int]]) -> None:
    with pytest.raises(EngineError, match="float32, or bytes with a scale"):
        _Levels.of({"dtype": details[0], "quantization": details[1]})


@pytest.mark.parametrize("cut", [0, 7, 100, 2000])
def test_file_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(EngineError, match="must be able to"):
        opened(TINY_TFLITE.read_bytes()[:cut])
