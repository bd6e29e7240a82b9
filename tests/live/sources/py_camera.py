"""A camera written in Python, for Micro-Manager's core in Python."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
from pymmcore_plus.experimental.unicore import SimpleCameraDevice


class CountingCamera(SimpleCameraDevice):
    """Fills its n-th frame with n; fails at every frame in ``broken``."""

    broken: ClassVar[set[int]] = set()
    count: ClassVar[int] = 0

    def get_exposure(self) -> float:
        return 1.0

    def set_exposure(self, exposure: float) -> None:
        """Keep it at a millisecond."""

    def dtype(self) -> Any:
        return np.uint8

    def sensor_shape(self) -> tuple[int, int]:
        return (32, 40)

    def snap(self, buffer: np.ndarray) -> dict[str, Any]:
        time.sleep(0.002)
        kind = type(self)
        kind.count += 1
        if kind.count in kind.broken:
            raise RuntimeError("unplugged")
        buffer[:] = kind.count
        return {}
