"""An engine that was deliberately made slower: it sleeps before each tile."""

from __future__ import annotations

import time
from typing import Any

from cellseg.runtime.engines.onnxruntime import OnnxRuntimeEngine

SLEEP_S = 0.003


class SlowEngine(OnnxRuntimeEngine):
    def infer(self, tile: Any, out: Any = None) -> Any:
        time.sleep(SLEEP_S)
        return super().infer(tile, out)
