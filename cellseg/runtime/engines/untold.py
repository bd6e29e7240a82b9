"""Importing packages that would tell their makers about it.

``import openvino`` sends an event to a statistics service, in the user's name and without asking,
unless a file of refusal lies in the home directory. A laboratory's machine has nothing to tell:
with ``openvino_telemetry`` out of sight OpenVINO takes a silent substitute that it brings itself.
That also saves the import of an HTTP client.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["untold"]

_TELEMETRY = "openvino_telemetry"


@contextmanager
def untold() -> Iterator[None]:
    """Hide the module that tells, while a package is imported for the first time.

    A program that imported it itself keeps it, and may import it afterwards.
    """
    if _TELEMETRY in sys.modules:
        yield
        return
    modules = cast("dict[str, Any]", sys.modules)
    modules[_TELEMETRY] = None  # Python's own way to say: there is no such module
    try:
        yield
    finally:
        del modules[_TELEMETRY]
