"""PNGs with a palette: decoders give its colours, label images need the numbers behind them."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["palette_numbers", "png_palette"]

_PNG = b"\x89PNG\r\n\x1a\n"
_BITS, _COLOUR_TYPE = 24, 25  # their bytes in a file, in its first chunk
_GREY, _PALETTE = 0, 3


def png_palette(data: bytes) -> list[tuple[int, int, int]] | None:
    """Colours of a palette PNG in order of their number; None for other files."""
    if not _has_palette(data):
        return None
    for kind, content in _chunks(data):
        if kind == b"PLTE":
            return list(zip(content[::3], content[1::3], content[2::3], strict=False))
    return None


def palette_numbers(data: bytes) -> NDArray[Any] | None:
    """Decode the numbers of a palette PNG, uint8 (H, W); None for other and damaged files."""
    import cv2

    if not _has_palette(data):
        return None
    # As a grey picture the same bytes are decoded to what they are.
    parts = [_PNG]
    for kind, content in _chunks(data):
        if kind == b"IHDR":
            content = content[:9] + bytes([_GREY]) + content[10:]
        if kind not in (b"PLTE", b"tRNS"):
            crc = struct.pack(">I", zlib.crc32(kind + content))
            parts += [struct.pack(">I", len(content)), kind, content, crc]
    grey = cv2.imdecode(np.frombuffer(b"".join(parts), np.uint8), cv2.IMREAD_UNCHANGED)
    # Fewer than eight bits are stretched to white.
    return None if grey is None else np.asarray(grey // (255 // (2 ** data[_BITS] - 1)))


def _has_palette(data: bytes) -> bool:
    return data.startswith(_PNG) and data[_COLOUR_TYPE : _COLOUR_TYPE + 1] == bytes([_PALETTE])


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of each chunk."""
    place = len(_PNG)
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        yield kind, data[place + 8 : place + 8 + length]
        place += 12 + length
