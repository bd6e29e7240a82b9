"""The preview of a scan as files that a viewer can have open while it grows."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import CellsegError
from cellseg.live.painter import encode_jpeg, encode_png
from cellseg.runtime.writers.atomic import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.live.mosaic.preview import MosaicPreview

__all__ = ["PreviewFiles"]

_LOG = logging.getLogger(__name__)
_INTERVAL_S = 2.0


class PreviewFiles:
    """``preview.jpg``: the slide with its classes painted on; ``preview-classes.png``: them alone.

    Parameters
    ----------
    folder : Path
        Of the results.
    preview : MosaicPreview
        What is written.
    palette : tuple of (red, green, blue)
        Colour of each class.
    """

    def __init__(self, folder: Path, preview: MosaicPreview, palette: Any) -> None:
        self._preview, self._colours = preview, np.array(palette, np.uint8)
        self._overlay = folder / "preview.jpg"
        self._classes = folder / "preview-classes.png"
        self._written, self._next_s = 0, 0.0

    def write_now_and_then(self) -> None:
        """Write what is new, at most every two seconds."""
        if time.monotonic() >= self._next_s:
            self.write()
            self._next_s = time.monotonic() + _INTERVAL_S

    def write(self) -> None:
        """Write what is new; a disk that fails costs the picture, not the scan."""
        version = self._preview.version
        if version == self._written:
            return
        try:
            with replacing(self._overlay) as path:
                path.write_bytes(encode_jpeg(self._preview.overlay()))
            with replacing(self._classes) as path:
                path.write_bytes(encode_png(self._colours[self._preview.classes()]))
            self._written = version
        except CellsegError as error:
            _LOG.warning("no preview: %s", error)

    def remove(self) -> None:
        """Remove the files."""
        for path in (self._overlay, self._classes):
            path.unlink(missing_ok=True)
