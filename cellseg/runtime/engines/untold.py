"""Importing packages that would tell their makers about it.

``import openvino`` sends an event to a statistics service, in the user's name and without asking,
unless a file of refusal lies in the home directory. A laboratory's machine has nothing to tell:
with ``openvino_telemetry`` out of sight OpenVINO takes a silent substitute that it brings itself.
That also saves the import of an HTTP client.

``import onnxruntime`` makes a number for the machine, kept in the home directory, and queues events
beside it that name the interpreter's path. It asks the environment first, once, when it is loaded.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["untold"]

_TELEMETRY = "openvino_telemetry"
_ONNX_RUNTIME_SWITCH = "ORT_DISABLE_TELEMETRY"


@contextmanager
def untold() -> Iterator[None]:
    """Keep a package from telling, while it is imported for the first time.

    A program that imported OpenVINO's module itself keeps it, and may import it afterwards; one
    that sets ONNX Runtime's variable has its say.
    """
    os.environ.setdefault(_ONNX_RUNTIME_SWITCH, "1")
    if _TELEMETRY in sys.modules:
        yield
        return
    modules = cast("dict[str, Any]", sys.modules)
    modules[_TELEMETRY] = None  # Python's own way to say: there is no such module
    try:
        yield
    finally:
        del modules[_TELEMETRY]
