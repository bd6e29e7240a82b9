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
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["write_jpeg", "write_jpeg_strips"]

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
    write_jpeg_strips(path, (rgb.shape[0], rgb.shape[1]), lambda start, stop: rgb[start:stop])


def write_jpeg_strips(
    path: Path, hw: tuple[int, int], strip: Callable[[int, int], NDArray[np.uint8]]
) -> None:
    """Write a picture that is made strip by strip; see `write_jpeg`.

    Parameters
    ----------
    path : Path
        Target.
    hw : (int, int)
        Height and width, at most 65,500 pixels to a side.
    strip : callable
        From the first row and the one after the last to their pixels, uint8 (h, w, 3). Called by a
        few threads, once for each strip; no more strips than threads are held.
    """
    height, width = hw
    across = -(-width // _BLOCK_PX)
    down = min(_STRIP_BLOCKS, _MOST_BLOCKS // across)
    strip_px = down * _BLOCK_PX

    def encoded_from(start: int) -> bytes:
        return _encode(strip(start, min(start + strip_px, height)))

    with ThreadPoolExecutor(_THREADS) as pool:
        encoded = list(pool.map(encoded_from, range(0, height, strip_px)))
    path.write_bytes(encoded[0] if len(encoded) == 1 else _joined(encoded, height, across * down))


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
