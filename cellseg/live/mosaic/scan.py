"""A scan from its first frame to the result folder that ``infer`` would have made."""

from __future__ import annotations

import logging
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

from cellseg.errors import StoreError
from cellseg.live.mosaic.kept import KEPT_FOLDER
from cellseg.live.mosaic.ledger import CellLedger
from cellseg.live.mosaic.mosaic import Mosaic
from cellseg.live.mosaic.preview import MosaicPreview
from cellseg.live.mosaic.preview_files import PreviewFiles
from cellseg.live.mosaic.write import write_mosaic
from cellseg.runtime.infer import infer_slide
from cellseg.runtime.run.result_folder import result_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellseg.live.frame import Frame
    from cellseg.live.mosaic.slide import MosaicSlide
    from cellseg.live.result import FrameResult
    from cellseg.runtime.jobs.options import InferOptions, ProgressCallback

__all__ = ["Scan"]

_LOG = logging.getLogger(__name__)
_MOST_WAITING = 32


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
    palette : tuple of (red, green, blue)
        Colour of each class of the model, background first.
    mpp : float, optional
        Microns per pixel of the frames.
    may_wait : bool
        Whether the camera waits for a slow disk.

    Attributes
    ----------
    folder, path : Path
        Of the results, and of the mosaic in it.
    preview : MosaicPreview
        The slide so far; written to ``preview.jpg`` and ``preview-classes.png`` every few seconds.

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
        palette: tuple[tuple[int, int, int], ...],
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
        _refuse_broken_off(self.folder)
        self._lock = Lock()
        self._places_yx: dict[int, tuple[float, float]] = {}
        self._waiting: OrderedDict[int, FrameResult] = OrderedDict()
        self.preview = MosaicPreview(palette)
        self._files = PreviewFiles(self.folder, self.preview, palette)
        self._mosaic = Mosaic(self.path, mpp, may_wait, self._place)
        self._ledger = CellLedger(1 + len(self._class_names))

    @property
    def counts(self) -> dict[str, int]:
        """Cells so far, each counted once."""
        return dict(zip(self._class_names, self._ledger.counts[1:].tolist(), strict=True))

    def add(self, frame: Frame) -> None:
        """Take a frame."""
        self._mosaic.add(frame)

    def see(self, result: FrameResult) -> None:
        """Count and show what is new in a result, as soon as its frame has a place."""
        if result.meta.stage_xyz_um is None:
            return
        with self._lock:
            self._waiting[result.meta.frame_id] = result
            while len(self._waiting) > _MOST_WAITING:  # frames that the mosaic left out
                self._waiting.popitem(last=False)
        self._show(result.meta.frame_id)

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
            self.close()
            return None
        write_mosaic(self.path, mosaic)
        self._files.write()
        cells = None
        if segment:
            cells = self._segment(mosaic, progress)
            self._files.remove()  # overlay.jpg says it all
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

    def leave(self) -> Path:
        """End, and leave the frames that were kept where they can be played again: there."""
        return self._mosaic.leave()

    def close(self) -> None:
        """Give up: remove the frames that were kept, and their picture."""
        self._mosaic.remove_frames()
        self._files.remove()

    def _place(self, frame: Frame, yx: tuple[float, float]) -> None:
        """Take note of where a frame lies; called from the mosaic's thread."""
        self.preview.show_frame(frame.array, yx)
        with self._lock:
            self._places_yx[frame.meta.frame_id] = yx
        self._show(frame.meta.frame_id)
        self._files.write_now_and_then()

    def _show(self, frame_id: int) -> None:
        """Count a frame's cells once both are there: its result and its place."""
        with self._lock:
            yx = self._places_yx.get(frame_id)
            if yx is None or frame_id not in self._waiting:
                return
            result = self._waiting.pop(frame_id)
            if result.cells is not None:
                self._ledger.add(result.cells, yx, result.classes.shape)
        self.preview.show_classes(result.classes, yx)

    def _segment(
        self, mosaic: MosaicSlide, progress: ProgressCallback | None
    ) -> dict[str, int] | None:
        # Where nobody knows how large a pixel is, the mosaic is a plain image, as its frames were.
        slide = self.path if mosaic.mpp is not None else mosaic
        result = infer_slide(slide, self._out, self._options, progress)
        _LOG.info("mosaic of %d frames, see %s", len(mosaic.frames), result.folder)
        found: dict[str, int] | None = result.report["cells"]
        return found


def _refuse_broken_off(folder: Path) -> None:
    """Refuse to write over the frames that a scan left which was killed."""
    if (folder / KEPT_FOLDER / "frames.jsonl").exists():
        raise StoreError(
            f"A scan was broken off here, and its frames are kept. Received: {folder}.",
            hint=f"`cellseg-cli live recording:{folder} -o OTHER_FOLDER` makes its result; to give "
            f"it up, remove {folder / KEPT_FOLDER}.",
        )
