"""A picture as JPEG, encoded by several threads: strips that join at restart markers.

A decoder begins anew at each restart marker, so what lies between two of them can be encoded by
itself (ITU T.81, section E.1.4). The pixels are those of one stream without markers.
"""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["write_jpeg"]

_QUALITY = 90
_THREADS = 2
_BLOCK_PX = 8
_STRIP_BLOCKS = 32
_MOST_BLOCKS = 0xFFFF
_RESTART, _END, _SCAN, _SIZE, _INTERVAL = 0xD0, 0xD9, 0xDA, 0xC0, 0xDD


def write_jpeg(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write a picture as JPEG without colour subsampling, which would blur outlines.

    Parameters
    ----------
    path : Path
        Target.
    rgb : uint8, shape (h, w, 3)
        At most 65,500 pixels to a side.
    """
    across = -(-rgb.shape[1] // _BLOCK_PX)
    down = min(_STRIP_BLOCKS, _MOST_BLOCKS // across)
    strip_px = down * _BLOCK_PX
    strips = [rgb[y : y + strip_px] for y in range(0, rgb.shape[0], strip_px)]
    with ThreadPoolExecutor(_THREADS) as pool:
        encoded = list(pool.map(_encode, strips))
    is_one = len(encoded) == 1
    path.write_bytes(encoded[0] if is_one else _joined(encoded, rgb.shape[0], across * down))


def _encode(rgb: NDArray[np.uint8]) -> bytes:
    import imagecodecs

    # Not OpenCV: its import alone takes as long, and it wants the channels turned about first.
    data = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(rgb), level=_QUALITY, colorspace="RGB", subsampling="444"
    )
    return cast("bytes", data)


def _joined(strips: Sequence[bytes], height: int, blocks: int) -> bytes:
    """Join streams of equal tables into one of ``height`` pixels, a restart every ``blocks``."""
    size_at, scan_at = (_segment_at(strips[0], marker) for marker in (_SIZE, _SCAN))
    parts = [
        strips[0][: size_at + 5],
        struct.pack(">H", height),
        strips[0][size_at + 7 : scan_at],
        struct.pack(">BBHH", 0xFF, _INTERVAL, 4, blocks),
        strips[0][scan_at:-2],
    ]
    for index, strip in enumerate(strips[1:]):
        start = _segment_at(strip, _SCAN) + 2
        start += struct.unpack_from(">H", strip, start)[0]
        parts += [bytes([0xFF, _RESTART + index % 8]), strip[start:-2]]
    return b"".join([*parts, bytes([0xFF, _END])])


def _segment_at(stream: bytes, marker: int) -> int:
    """Return where a segment of the header begins."""
    at = 2
    while stream[at + 1] != marker:
        at += 2 + int(struct.unpack_from(">H", stream, at + 2)[0])
    return at
