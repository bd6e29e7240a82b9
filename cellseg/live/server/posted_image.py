"""The body of ``POST /segment``: bytes of an image file, from whoever sends some."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellseg.errors import CellsegError
from cellseg.live.server.guard import HttpError
from cellseg.runtime.slides.readers import open_slide

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_BODY_BYTES", "decode"]

MAX_BODY_BYTES = 64 * 2**20
_MAX_PX = 64_000_000


def decode(data: bytes) -> tuple[NDArray[Any], float | None]:
    """Decode an image file of any kind that ``infer`` reads, and its microns a pixel.

    Returns
    -------
    array, shape (H, W, 3)
        RGB in the file's own depth.
    float or None
        Microns per pixel; None where the file does not say.

    Raises
    ------
    HttpError
        If it is too large, or no image.
    """
    with tempfile.TemporaryDirectory(prefix="cellseg-") as folder:
        path = Path(folder, "image")
        path.write_bytes(data)
        try:
            slide = open_slide(path)
            try:
                level = slide.levels[0]
                _check_size(level.height_px, level.width_px)
                pixels = slide.read_region(0, (0, 0), (level.height_px, level.width_px))
                return pixels, None if slide.mpp is None else math.sqrt(math.prod(slide.mpp))
            finally:
                slide.close()
        except HttpError:
            raise
        except CellsegError as error:  # the sender does not know our temporary path
            raise CellsegError(str(error).replace(str(path), "image"), error.hint) from error


def _check_size(height: int, width: int) -> None:
    if height * width > _MAX_PX:
        raise HttpError(
            413,
            f"An image has at most {_MAX_PX // 10**6} megapixels. Received: {width}x{height} px.",
            "cellseg-cli infer takes slides of any size.",
        )
