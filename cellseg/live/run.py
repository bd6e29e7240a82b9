"""A live run from beginning to end: source, session, and what listens to it."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellseg.live.calm import calm_interpreter
from cellseg.live.counters import Policy
from cellseg.live.events.engine import EventEngine
from cellseg.live.events.rules import read_rules
from cellseg.live.feeder import Feeder
from cellseg.live.json_lines import JsonLines
from cellseg.live.mosaic.scan import Scan
from cellseg.live.recorder import Recorder
from cellseg.live.session import LiveSession
from cellseg.runtime.run.result_folder import result_folder
from cellseg.runtime.segmenter import infer_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellseg.live.events.engine import LiveEvent
    from cellseg.live.events.rules import Rule
    from cellseg.live.frame import Frame, FrameMeta
    from cellseg.live.mosaic.preview import MosaicPreview
    from cellseg.live.snapshot import LiveSnapshot
    from cellseg.live.sources.base import Source
    from cellseg.runtime.jobs.options import ProgressCallback

__all__ = ["LiveOptions", "LiveRun"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiveOptions:
    """What is done with frames besides segmenting them."""

    frames: int | None = None
    """End after so many; None: when the source ends."""

    policy: str | None = None
    """What happens to frames that come too fast; None: files wait, cameras do not."""

    queue_size: int = 1
    """Frames that may wait."""

    out: Path | None = None
    """Where to write; None: nowhere."""

    record: bool = False
    """Keep frames, masks and events in ``out``."""

    rules: Path | None = None
    """TOML file of rules."""

    mosaic: bool = True
    """Put frames with stage positions together in ``out``, and segment them as a slide."""


class LiveRun:
    """Feeds a session from a source, records it and watches for events. A context manager.

    Parameters
    ----------
    source : Source
        Open; closed at the end.
    is_camera : bool
        Whether frames come at their own pace, whatever we do.
    options : LiveOptions
        What is done besides.
    model, **segmenting
        As for `LiveSession`.
    """

    def __init__(
        self,
        source: Source,
        is_camera: bool,
        options: LiveOptions,
        model: str | Path = "nuclei",
        **segmenting: Any,
    ) -> None:
        self._source, self._options = source, options
        default = Policy.DROP_OLDEST if is_camera else Policy.BLOCK
        rules = () if options.rules is None else read_rules(options.rules)
        self.session = LiveSession(
            model,
            policy=options.policy or default,
            queue_size=options.queue_size,
            mpp=source.mpp,
            **segmenting,
        )
        self.outputs: list[Path] = []
        self._started_s = time.monotonic()
        self._listeners = ExitStack()
        self._scan: Scan | None = None
        self._feeder = Feeder(source, self.session, options.frames, self._tap)
        try:
            self._recorder = self._record() if options.record else None
            self.events = self._listen(rules)
            if options.mosaic and options.out is not None:
                self._scan = self._begin_scan(options.out, {"model": model, **segmenting})
        except BaseException:
            self.close()
            raise

    @property
    def preview(self) -> MosaicPreview | None:
        """The mosaic so far; None where none is made."""
        return None if self._scan is None else self._scan.preview

    def start(self) -> None:
        """Open the engine for the frames that will come, and begin to take them."""
        if (kind := self._source.frame_kind) is not None:
            self.session.warm_up(*kind)
        self._listeners.enter_context(calm_interpreter())
        self._started_s = time.monotonic()
        self._feeder.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the source to end; return whether it has."""
        return self._feeder.wait(timeout_s)

    def finish(
        self, drain: bool = True, progress: ProgressCallback | None = None
    ) -> dict[str, Any]:
        """End: let frames that wait be done, or not, close everything, and segment the mosaic.

        Parameters
        ----------
        drain : bool
            Whether there is time: for frames that wait, and to segment the mosaic.
        progress : callable, optional
            Called while the mosaic is segmented, as by `infer_slide`.

        Returns
        -------
        dict
            The closing line: what was sent, done and dropped, latency and counts.

        Raises
        ------
        CellsegError
            If the source failed; everything is closed all the same.
        """
        self._close_stream(drain)
        scan, self._scan = self._scan, None
        try:
            self._feeder.raise_failure()
        except Exception:
            if scan is not None:
                _LOG.warning("frames so far: cellseg-cli live recording:%s", scan.leave())
            raise
        closing = self._closing(self.session.snapshot())
        mosaic = None if scan is None else scan.finish(drain, progress)
        if scan is not None and mosaic is not None:
            closing["mosaic"] = mosaic
            closing["counts"] = mosaic["cells"] or mosaic["cells_while_scanning"]
            closing["outputs"].append(str(scan.folder))
        return closing

    def close(self, drain: bool = False) -> None:
        """Close everything, and drop what a scan has kept. May be called again."""
        self._close_stream(drain)
        scan, self._scan = self._scan, None
        if scan is not None:
            scan.close()

    def _close_stream(self, drain: bool) -> None:
        if drain:
            self._feeder.stop()
        self._feeder.stop_soon()
        self.session.close(drain)
        self._feeder.stop()
        self._listeners.close()

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _folder(self) -> Path:
        return result_folder(
            self._source.name.partition(":")[2], self._options.out or "cellseg-out"
        )

    def _record(self) -> Recorder:
        folder = self._folder() / "recording"
        may_wait = self.session.policy is Policy.BLOCK
        recorder = Recorder(folder, self.session, self._source.mpp, may_wait)
        self._listeners.callback(recorder.close)
        self.outputs.append(folder)
        return recorder

    def _begin_scan(self, out: Path, segmenting: dict[str, Any]) -> Scan:
        scan = Scan(
            self._folder().name,
            out,
            infer_options(**segmenting),
            self.session.counted_names,
            self.session.palette,
            self._source.mpp,
            self.session.policy is Policy.BLOCK,
        )
        self._listeners.callback(self.session.on_result(scan.see))
        return scan

    def _tap(self, frame: Frame) -> None:
        if self._scan is not None:
            self._scan.add(frame)

    def _listen(self, rules: Sequence[Rule]) -> EventEngine:
        engine = EventEngine(rules, self.session.counted_names, self._source.mpp)
        engine.on_event(self._stop_if_told)
        self._listeners.callback(engine.close)
        self._listeners.callback(self.session.on_result(engine.see))
        if self._options.record or (rules and self._options.out is not None):
            self._write_events(engine)
        return engine

    def _stop_if_told(self, event: LiveEvent) -> None:
        if event.rule.stop:
            self._feeder.stop_soon()

    def _write_events(self, engine: EventEngine) -> None:
        path = self._folder() / "recording" / "events.jsonl"
        lines = JsonLines(path)
        self._listeners.callback(lines.close)
        self.outputs.append(path)
        engine.on_event(lambda event: lines.add(event.as_dict()))
        self.session.on_drop(lambda meta, reason: lines.add(_drop_line(meta, reason.value)))
        self.session.on_error(lambda meta, error: lines.add(_error_line(meta, error)))

    def _closing(self, state: LiveSnapshot) -> dict[str, Any]:
        counters = state.counters
        elapsed_s = time.monotonic() - self._started_s
        closing: dict[str, Any] = {
            "source": self._source.name,
            "model": state.model,
            "engine": state.engine,
            "normalize": None if state.intensities is None else state.intensities.as_dict(),
            **counters.as_dict(),
            "lost": dict(self._source.lost),
            "latency_ms": state.latency.as_dict(),
            "counts": dict(state.counts),
            "fps": round(counters.done / elapsed_s, 3),
            "elapsed_s": round(elapsed_s, 3),
            "events": self.events.fired,
            "outputs": [str(path) for path in self.outputs],
        }
        if self._recorder is not None:
            closing["recorded"] = self._recorder.recorded
            closing["not_recorded"] = self._recorder.left_out
        return closing


def _drop_line(meta: FrameMeta, reason: str) -> dict[str, Any]:
    return {"event": "drop", "frame": meta.frame_id, "reason": reason}


def _error_line(meta: FrameMeta, error: Exception) -> dict[str, Any]:
    return {"event": "error", "frame": meta.frame_id, "error": str(error)}
