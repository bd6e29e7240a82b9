"""Knows an image again by its pixels: in another container, under another name."""

from __future__ import annotations

import hashlib
from contextlib import closing
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import SlideError
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.store.identity import content_hash

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.runtime.slides.slide import Slide

__all__ = ["image_hash"]

_WHOLE_PX = 64_000_000
"""An image up to this is decoded, which takes seconds."""
_ROWS = 1024


def image_hash(path: Path) -> str:
    """Return a sha256 of an image's pixels: the same whatever file format they are kept in.

    Of a slide beyond 64 megapixels, and of what cannot be read, it is that of the file.
    """
    facts = path.stat()
    return _hash(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=4096)  # images are asked for as they are gathered, and as they are held apart
def _hash(path: Path, _mtime_ns: int, _size: int) -> str:
    try:
        with closing(open_slide(path)) as slide:
            level = slide.levels[0]
            if level.width_px * level.height_px <= _WHOLE_PX:
                return _pixel_hash(slide)
    except SlideError:
        pass  # who reads the image says so
    return content_hash(path)


def _pixel_hash(slide: Slide) -> str:
    """Hash values, not bytes: 8 bits kept in 16 are the same image."""
    level = slide.levels[0]
    found = hashlib.sha256(f"{level.width_px}x{level.height_px};".encode())
    for y in range(0, level.height_px, _ROWS):
        hw = (min(_ROWS, level.height_px - y), level.width_px)
        found.update(np.ascontiguousarray(slide.read_region(0, (y, 0), hw), np.uint16).data)
    return found.hexdigest()
