"""Pieces of graphs as OpenVINO reads them out of files."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Scale", "rounded"]

Scale = tuple[float, int]
"""Step of a byte, and the byte that stands for 0."""


def rounded(tensor: Any, scale: Scale) -> Any:
    """Return a tensor behind QuantizeLinear and DequantizeLinear."""
    from openvino import opset13 as ops

    step, zero = scale
    ends = [np.float32(step * (value - zero)) for value in (0, 255)]
    stored = ops.fake_quantize(tensor, *ends, np.float32(0), np.float32(255), 256)
    numbers = ops.convert(ops.convert(stored, "u8"), "f32")
    return ops.multiply(ops.subtract(numbers, np.float32(zero)), np.float32(step))
