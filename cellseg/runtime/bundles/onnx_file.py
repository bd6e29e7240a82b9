"""Facts about an ONNX file, read from its bytes without the onnx package.

An ONNX file may say that its weights lie in another file, anywhere on the disk. A bundle must not
("nothing in a bundle is code, no external data"), and an engine that is handed such bytes would
follow the path. The runtime has no onnx package, so the few protobuf messages on the way to a
tensor are walked here::

    Model ─7─> Graph ─1─> Node ─5─> Attribute ─5,10─> Tensor ─13,14─> external?
                 └────5,15────────────────────────────^   └─6,11─> Graph
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OnnxFacts", "read_onnx_facts"]

# message: {field number: message it holds}; every other field is skipped unread.
_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_MAX_DEPTH = 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxFacts:
    """What the outermost message of an ONNX file says."""

    ir_version: int
    """Version of the file format."""

    opsets: dict[str, int]
    """Operator set version by domain; ``""`` is ONNX itself."""

    external_tensors: tuple[str, ...]
    """Names of tensors whose data lie outside the file."""


def read_onnx_facts(data: bytes) -> OnnxFacts:
    """Read versions and external references from an ONNX file.

    Parameters
    ----------
    data : bytes
        The whole file.

    Raises
    ------
    BundleError
        If the bytes are not an ONNX model.
    """
    ir_version = 0
    opsets: dict[str, int] = {}
    for field, value in _fields(memoryview(data)):
        if field == 1 and isinstance(value, int):
            ir_version = value
        elif field == 8 and isinstance(value, memoryview):
            entry = dict(_fields(value))
            domain, version = entry.get(1, memoryview(b"")), entry.get(2, 0)
            if isinstance(domain, memoryview) and isinstance(version, int):
                opsets[bytes(domain).decode("utf-8", "replace")] = version
    if ir_version == 0 or not opsets:
        raise BundleError("An ONNX file must state its versions. Received: neither was found.")
    return OnnxFacts(ir_version, opsets, tuple(_external(memoryview(data), "Model", 0)))


def _external(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise BundleError(f"An ONNX file must not nest deeper than {_MAX_DEPTH} messages.")
    if kind == "Tensor":
        yield from _external_name(message)
        return
    children = _CHILDREN[kind]
    for field, value in _fields(message):
        if field in children and isinstance(value, memoryview):
            yield from _external(value, children[field], depth + 1)


def _external_name(tensor: memoryview) -> Iterator[str]:
    name, external = "?", False
    for field, value in _fields(tensor):
        if field == 8 and isinstance(value, memoryview):
            name = bytes(value).decode("utf-8", "replace")
        external = external or field == 13 or (field == 14 and value != 0)
    if external:
        yield name


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, integer or bytes) of one protobuf message."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if wire == _BYTES:
            size, at = _varint(message, at)
        if size is None or at + size > end:
            raise BundleError("An ONNX file must be whole. Received: a damaged protobuf message.")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise BundleError("An ONNX file must be whole. Received: a damaged protobuf number.")
