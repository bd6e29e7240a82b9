"""Frames of a scan on the disk until the mosaic is a file of its own; a kill leaves them readable.

::

    .scan-frames/frame_000017.npy     as the camera gave it
    .scan-frames/frames.jsonl         one line a frame, in the form of a recording's

The source ``recording:`` plays them again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from cellseg.live.json_lines import JsonLines
from cellseg.runtime.writers.atomic import PARTIAL_PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.live.frame import Frame

__all__ = ["KEPT_FOLDER", "KeptFrames"]

KEPT_FOLDER = ".scan-frames"
_LINES = "frames.jsonl"


class KeptFrames:
    """Writes the frames of a scan to a folder.

    Parameters
    ----------
    folder : Path
        Made if need be.
    mpp : float, optional
        Microns per pixel.

    Attributes
    ----------
    folder : Path
        The same.
    """

    def __init__(self, folder: Path, mpp: float | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._mpp = folder, mpp
        self._lines = JsonLines(folder / _LINES)
        self._paths: list[Path] = []

    def keep(self, frame: Frame) -> Path:
        """Write a frame; return its file."""
        path = self.folder / f"frame_{len(self._paths):06d}.npy"
        partial = path.with_name(f"{PARTIAL_PREFIX}{path.name}")
        np.save(partial, frame.array)
        partial.replace(path)  # whole, or not there
        meta = frame.meta
        self._lines.add(
            {
                "id": meta.frame_id,
                "stage_xyz_um": meta.stage_xyz_um,
                "channel": meta.channel,
                "mpp": self._mpp,
                "frame": path.name,
            }
        )
        self._paths.append(path)
        return path

    def close(self) -> None:
        """Keep no more."""
        self._lines.close()

    def remove(self) -> None:
        """Remove what was written. May be called again."""
        self.close()
        for path in (*self._paths, self.folder / _LINES):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # what is not ours stays
            self.folder.rmdir()
