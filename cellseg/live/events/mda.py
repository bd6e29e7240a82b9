"""Events as an acquisition: places to take again, for pymmcore-plus' runner."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from cellseg.errors import CellsegError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellseg.live.events.engine import LiveEvent

__all__ = ["MdaQueue"]


class MdaQueue:
    """An iterable of ``useq.MDAEvent``: give it to ``core.run_mda``, and `add` to ``on_event``.

    The runner takes an event when it has done the one before, and waits while there is none, until
    the queue is closed.

    Parameters
    ----------
    **fields
        Further fields of every event, such as ``exposure`` in milliseconds or ``channel``.

    Examples
    --------
    >>> again = MdaQueue(exposure=200.0)  # doctest: +SKIP
    >>> engine.on_event(again.add)  # doctest: +SKIP
    >>> core.run_mda(again)  # doctest: +SKIP
    """

    def __init__(self, **fields: Any) -> None:
        try:
            import useq
        except ModuleNotFoundError as error:
            raise CellsegError(
                "An MDA queue needs the live extra. Received: no module 'useq'.",
                hint="pip install 'cellseg[live]'",
            ) from error
        self._event_class, self._fields = useq.MDAEvent, fields
        self._queue: queue.Queue[Any] = queue.Queue()
        self._added = 0

    def add(self, event: LiveEvent) -> None:
        """Queue the places of an event whose rule says ``reimage``."""
        if not event.rule.reimage:
            return
        stage = event.result.meta.stage_xyz_um
        z_um = None if stage is None else stage[2]
        places = [cell.xy_um for cell in event.cells if cell.xy_um is not None]
        if not places and stage is not None:
            places = [(stage[0], stage[1])]
        for x_um, y_um in places:
            self._put(x_um, y_um, z_um, event.rule.name)

    def close(self) -> None:
        """End the acquisition after what is queued."""
        self._queue.put(None)

    def __iter__(self) -> Iterator[Any]:
        """Yield events as they come; for one runner."""
        return iter(self._queue.get, None)

    def _put(self, x_um: float, y_um: float, z_um: float | None, rule: str) -> None:
        place = {"x_pos": x_um, "y_pos": y_um, "z_pos": z_um, "metadata": {"rule": rule}}
        self._queue.put(self._event_class(index={"p": self._added}, **(place | self._fields)))
        self._added += 1
