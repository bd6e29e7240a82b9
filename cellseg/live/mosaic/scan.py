"""A scan from its first frame to the result folder that ``infer`` would have made."""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING, Any

from cellseg.errors import StoreError
from cellseg.live.mosaic.ledger import CellLedger
from cellseg.live.mosaic.mosaic import Mosaic
from cellseg.live.mosaic.write import write_mosaic
from cellseg.runtime.infer import infer_slide, result_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.live.frame import Frame
    from cellseg.live.mosaic.slide import MosaicSlide
    from cellseg.live.result import FrameResult
    from cellseg.runtime.options import InferOptions, ProgressCallback

__all__ = ["Scan"]

_LOG = logging.getLogger(__name__)


class Scan:
    """Collects the frames of a stage that moves, and counts their cells once.

    Parameters
    ----------
    name : str
        Of the scan: its files go to ``out / name``.
    out : Path
        Folder of results.
    options : InferOptions
        How the mosaic is segmented at the end.
    class_names : sequence of str
        Classes whose cells are counted.
    mpp : float, optional
        Microns per pixel of the frames.
    may_wait : bool
        Whether the camera waits for a slow disk.

    Attributes
    ----------
    folder, path : Path
        Of the results, and of the mosaic in it.

    Raises
    ------
    StoreError
        If the folder holds a scan already.
    """

    def __init__(
        self,
        name: str,
        out: Path,
        options: InferOptions,
        class_names: Sequence[str],
        mpp: float | None,
        may_wait: bool,
    ) -> None:
        self._out, self._options, self._class_names = out, options, tuple(class_names)
        self.folder = result_folder(name, out)
        self.path = self.folder / f"{self.folder.name}.ome.tif"
        for there in (self.path, self.folder / "run.json"):
            if there.exists():
                raise StoreError(
                    f"A scan never overwrites a result. Received: {there}, which is there.",
                    hint="Choose another folder with -o, or move the result away.",
                )
        self._lock = Lock()
        self._waiting: dict[int, tuple[NDArray[Any], tuple[int, int]]] = {}
        self._mosaic = Mosaic(self.path, mpp, may_wait, self._count)
        self._ledger = CellLedger(1 + len(self._class_names))

    @property
    def counts(self) -> dict[str, int]:
        """Cells so far, each counted once."""
        return dict(zip(self._class_names, self._ledger.counts[1:].tolist(), strict=True))

    def add(self, frame: Frame) -> None:
        """Take a frame."""
        self._mosaic.add(frame)

    def see(self, result: FrameResult) -> None:
        """Count what is new in a result, as soon as its frame has a place."""
        if result.cells is not None and result.meta.stage_xyz_um is not None:
            with self._lock:
                self._waiting[result.meta.frame_id] = result.cells, result.classes.shape
            self._count(result.meta.frame_id)

    def finish(
        self, segment: bool = True, progress: ProgressCallback | None = None
    ) -> dict[str, Any] | None:
        """Write the mosaic, and segment it.

        Parameters
        ----------
        segment : bool
            Whether the mosaic is segmented; else only written.
        progress : callable, optional
            As for `infer_slide`.

        Returns
        -------
        dict or None
            Size, frames, and cells; None where no stage moved.
        """
        mosaic = self._mosaic.finish()
        if mosaic is None or len({frame.yx for frame in mosaic.frames}) < 2:
            self._mosaic.remove_frames()
            return None
        write_mosaic(self.path, mosaic)
        cells = self._segment(mosaic, progress) if segment else None
        self._mosaic.remove_frames()
        base = mosaic.levels[0]
        return {
            "file": str(self.path),
            "width_px": base.width_px,
            "height_px": base.height_px,
            "frames": len(mosaic.frames),
            "registered_pairs": self._mosaic.link_count,
            "left_out": self._mosaic.left_out,
            "cells_while_scanning": self.counts,
            "cells": cells,
        }

    def close(self) -> None:
        """Give up: remove the frames that were kept."""
        self._mosaic.remove_frames()

    def _count(self, frame_id: int) -> None:
        """Count a frame's cells once both are there: its result and its place."""
        place_yx = self._mosaic.places_yx.get(frame_id)
        with self._lock:
            if place_yx is not None and frame_id in self._waiting:
                cells, hw = self._waiting.pop(frame_id)
                self._ledger.add(cells, place_yx, hw)

    def _segment(
        self, mosaic: MosaicSlide, progress: ProgressCallback | None
    ) -> dict[str, int] | None:
        # Where nobody knows how large a pixel is, the mosaic is a plain image, as its frames were.
        slide = self.path if mosaic.mpp is not None else mosaic
        result = infer_slide(slide, self._out, self._options, progress)
        _LOG.info("mosaic of %d frames, see %s", len(mosaic.frames), result.folder)
        found: dict[str, int] | None = result.report["cells"]
        return found
