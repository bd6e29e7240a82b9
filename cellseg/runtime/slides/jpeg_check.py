"""Damage in a JPEG stream that the decoder would paint over and say nothing of.

libjpeg goes on whatever it meets: it makes up what is missing, and a hole in the middle of the data
comes out as a grey or garbled tile. What can be told without decoding twice is looked at first:

- the stream begins with SOI and ends with EOI: a tile that was cut short lacks it;
- inside the coded data an 0xFF byte is followed by 0x00 or a restart marker: in 512 bytes of
  something else one other is found with a chance of 86 %, in 4096 always;
- the coded data holds no long run of zero bytes, as a block that was never written does: its bits
  would be hundreds of equal coefficients. (Where the shortest code is the end of a block, they
  are empty blocks, which a blank tile is full of; such streams are let through.)

A few bits that flipped can not be seen so.
"""

from __future__ import annotations

import struct

__all__ = ["jpeg_fault"]

_IN_DATA = frozenset({0x00, 0xFF, *range(0xD0, 0xD8)})
"""What follows 0xFF inside coded data: a stuffed zero, a fill byte, a restart marker."""
_ZERO_RUN = bytes(64)
_SOI, _EOI, _SOS, _DHT = 0xD8, 0xD9, 0xDA, 0xC4
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_STANDALONE = frozenset({0x01, _SOI, *range(0xD0, 0xD8)})
_AFTER_DATA = frozenset({_EOI, _SOS, _DHT, 0xDB, 0xDC, 0xDD, 0xFE})
_AC_CLASS = 1
_END_OF_BLOCK = 0


def jpeg_fault(data: bytes, tables: bytes | None = None) -> str | None:
    """Say what is wrong with a JPEG stream.

    Parameters
    ----------
    data : bytes
        One stream, from SOI to EOI; padding behind it does not matter.
    tables : bytes, optional
        Tables that the stream was abbreviated by (TIFF's JPEGTables).

    Returns
    -------
    str or None
        None where nothing was found.
    """
    if data[:2] != b"\xff\xd8":
        return "its JPEG data does not begin as JPEG does"
    try:
        return _fault_behind_start(data, _first_ac_codes(tables or b""))
    except (IndexError, struct.error):
        return "its JPEG data is cut short"
    except ValueError as error:
        return str(error)


def _fault_behind_start(data: bytes, first_codes: dict[int, int]) -> str | None:
    position, is_sequential, has_data = 2, False, False
    while True:
        marker, body, end = _segment(data, position)
        if marker == _EOI:
            return None if has_data else "its JPEG data holds no picture"
        is_sequential |= marker in _SEQUENTIAL
        if marker == _DHT:
            first_codes |= _first_codes_in(body)
        if marker == _SOS:
            has_data, start = True, end
            end = _end_of_data(data, start)
            may_be_blank = not is_sequential or _zeros_are_blank(body, first_codes)
            if not may_be_blank and data.find(_ZERO_RUN, start, end) >= 0:
                return "its JPEG data has a hole of zero bytes"
        position = end


def _segment(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Return marker, content and end of the segment at a position."""
    if data[position] != 0xFF:
        raise ValueError(f"its JPEG data has a wrong byte at {position}")
    while data[position + 1] == 0xFF:
        position += 1
    marker = data[position + 1]
    if marker in _STANDALONE or marker == _EOI:
        return marker, b"", position + 2
    size = int(struct.unpack_from(">H", data, position + 2)[0])
    end = position + 2 + size
    if size < 2 or end > len(data):
        raise IndexError
    return marker, data[position + 4 : end], end


def _end_of_data(data: bytes, start: int) -> int:
    """Return where coded data ends: at the next marker that is no restart."""
    position = data.find(b"\xff", start)  # some 200 of them in a tile: faster than a pattern
    while position >= 0:
        follower = data[position + 1]
        if follower in _AFTER_DATA:
            return position
        if follower not in _IN_DATA:
            raise ValueError(f"its JPEG data has a wrong byte at {position + 1}")
        position = data.find(b"\xff", position + 1 + (follower != 0xFF))
    raise IndexError


def _first_ac_codes(tables: bytes) -> dict[int, int]:
    """Return what zero bits mean in each AC table of a tables-only stream."""
    position, found = 2, dict[int, int]()
    while position + 4 <= len(tables):
        marker, body, position = _segment(tables, position)
        if marker == _DHT:
            found |= _first_codes_in(body)
    return found


def _first_codes_in(body: bytes) -> dict[int, int]:
    """Return, by table, the symbol of the first code, which is all zero bits; AC tables only."""
    position, found = 0, dict[int, int]()
    while position + 17 < len(body):
        count = sum(body[position + 1 : position + 17])
        if body[position] >> 4 == _AC_CLASS:
            found[body[position] & 15] = body[position + 17]
        position += 17 + count
    return found


def _zeros_are_blank(scan_header: bytes, first_codes: dict[int, int]) -> bool:
    """Say whether zero bits end the blocks of every component of a scan."""
    used = [scan_header[2 + 2 * index] & 15 for index in range(scan_header[0])]
    return all(first_codes.get(table, _END_OF_BLOCK) == _END_OF_BLOCK for table in used)
