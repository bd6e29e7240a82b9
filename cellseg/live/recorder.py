"""Keeps frames, masks and what happened, so that a kill costs the frame that was being written.

::

    recording/frames/frame_000017.ome.tif     what the camera saw, as it came
    recording/masks/frame_000017.ome.tif      plane 0: class of each pixel, plane 1: cells
    recording/frames.jsonl                    one line a frame: meta, counts, latency, files
    recording/events.jsonl                    one line a drop, error or fired rule

A file has its name only when it is whole, and a line is written, flushed, after the files that it
names. A frame a file: sizes may change in mid-stream, and a reader needs nothing of ours.
"""

from __future__ import annotations

import logging
import queue
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import StoreError
from cellseg.live.json_lines import JsonLines
from cellseg.runtime.writers.atomic import PARTIAL_PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.live.result import FrameResult
    from cellseg.live.session import LiveSession

__all__ = ["Recorder"]

_LOG = logging.getLogger(__name__)
_WAITING = 8


class Recorder:
    """Records a session's results in a thread of its own.

    Parameters
    ----------
    folder : Path
        Made if need be; must not hold another recording.
    session : LiveSession
        Listened to until `close`.
    mpp : float, optional
        Microns per pixel, for the files.
    may_wait : bool
        Whether the session waits where the disk is slower than the camera; else results are left
        out, and counted.

    Attributes
    ----------
    recorded, left_out : int
        Frames on the disk, and frames that the disk was too slow for.

    Raises
    ------
    StoreError
        If the folder holds a recording already, or cannot be written.
    """

    def __init__(
        self, folder: Path, session: LiveSession, mpp: float | None = None, may_wait: bool = False
    ) -> None:
        if (folder / "frames.jsonl").exists():
            raise StoreError(
                f"A recording is never overwritten. Received: folder={folder}, which holds one.",
                hint="Choose another folder with -o, or move the recording away.",
            )
        try:
            for name in ("frames", "masks"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._lines = JsonLines(folder / "frames.jsonl")
        except OSError as error:
            raise StoreError(
                f"A recording needs a folder that can be written. Received: {folder} "
                f"({error.strerror})."
            ) from error
        self._folder, self._mpp, self._may_wait = folder, mpp, may_wait
        self.recorded = self.left_out = 0
        self._error: Exception | None = None
        self._queue: queue.Queue[FrameResult | None] = queue.Queue(_WAITING)
        self._thread = Thread(target=self._write_all, name="cellseg-recorder", daemon=True)
        self._thread.start()
        self._unsubscribe = session.on_result(self._take)

    def close(self) -> None:
        """Write what waits, and return when it is on the disk."""
        self._unsubscribe()
        self._queue.put(None)
        self._thread.join()
        self._lines.close()

    def _take(self, result: FrameResult) -> None:
        if self._error is not None or (self._queue.full() and not self._may_wait):
            self.left_out += 1
            return
        self._queue.put(result)

    def _write_all(self) -> None:
        while (result := self._queue.get()) is not None:
            if self._error is not None:
                self.left_out += 1
                continue
            try:
                self._write(result)
            except Exception as error:  # or a session that waits would wait for ever
                self._error = error
                self.left_out += 1
                _LOG.error("recording stopped: %s", error)

    def _write(self, result: FrameResult) -> None:
        name = f"frame_{self.recorded:06d}.ome.tif"
        frame, mask = self._folder / "frames" / name, self._folder / "masks" / name
        self._write_image(frame, result.frame.array, result)
        planes = [result.classes.astype(np.uint32)]
        if result.labels is not None:
            planes.append(result.labels)
        self._write_image(mask, np.stack(planes), result)
        files = {"frame": f"frames/{name}", "mask": f"masks/{name}"}
        self._lines.add({**_line(result), "mpp": self._mpp, **files})
        self.recorded += 1

    def _write_image(self, path: Path, pixels: NDArray[Any], result: FrameResult) -> None:
        import tifffile

        is_mask = path.parent.name == "masks"
        partial = path.with_name(f"{PARTIAL_PREFIX}{path.name}")
        is_rgb = not is_mask and pixels.ndim == 3 and pixels.shape[2] in (3, 4)
        tifffile.imwrite(
            partial,
            pixels if pixels.ndim == 2 or is_rgb or is_mask else pixels[..., 0],
            ome=True,
            photometric="rgb" if is_rgb else "minisblack",
            compression="zlib" if is_mask else None,
            metadata=self._metadata(result, is_mask, is_rgb, pixels),
        )
        partial.replace(path)  # whole, or not there

    def _metadata(
        self, result: FrameResult, is_mask: bool, is_rgb: bool, pixels: NDArray[Any]
    ) -> dict[str, Any]:
        names = ["classes", "cells"][: len(pixels)] if is_mask else None
        known: dict[str, Any] = {"axes": "CYX" if is_mask else "YXS" if is_rgb else "YX"}
        if names is not None:
            known["Channel"] = {"Name": names}
        if self._mpp is not None:
            known |= {"PhysicalSizeX": self._mpp, "PhysicalSizeY": self._mpp}
        if result.meta.stage_xyz_um is not None:
            planes = len(names) if names else 1
            for axis, place in zip("XYZ", result.meta.stage_xyz_um, strict=True):
                known.setdefault("Plane", {})[f"Position{axis}"] = [place] * planes
        return known


def _line(result: FrameResult) -> dict[str, Any]:
    meta, latency = result.meta, result.latency
    return {
        "id": meta.frame_id,
        "exposure_start_ns": meta.exposure_start_ns,
        "stage_xyz_um": meta.stage_xyz_um,
        "channel": meta.channel,
        "counts": dict(result.counts),
        "focus": round(result.focus, 3),
        "latency_ms": {
            "wait": round(latency.wait_ms, 3),
            "engine": round(latency.engine_ms, 3),
            "total": round(latency.total_ms, 3),
        },
    }
