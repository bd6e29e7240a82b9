"""Engines that stay open between images: opening one takes longer than a small image."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.engines.base import Engine
    from cellseg.runtime.jobs.options import InferOptions

    OpenEngine = Callable[[Bundle, InferOptions, tuple[int, int]], Engine]

__all__ = ["EngineShelf"]


class EngineShelf:
    """Opens engines and keeps the few that were used last.

    Parameters
    ----------
    open_engine : callable
        Opens the engine for a bundle, options and a tile size.
    kept : int
        How many stay open; the one that was used longest ago is closed first.

    Notes
    -----
    For one thread at a time, as engines of two concurrent runs would share buffers.
    """

    def __init__(self, open_engine: OpenEngine, kept: int = 2) -> None:
        self._open_engine, self._kept = open_engine, kept
        self._engines: OrderedDict[tuple[object, ...], Engine] = OrderedDict()

    @contextmanager
    def lend(
        self, bundle: Bundle, options: InferOptions, tile_hw: tuple[int, int]
    ) -> Iterator[Engine]:
        """Lend the engine for a tile size; one that was in use when something failed is not kept.

        Parameters
        ----------
        bundle : Bundle
            The model.
        options : InferOptions
            ``engine``, ``precision``, ``threads`` and ``tiles_at_once`` count.
        tile_hw : (int, int)
            Height and width of every tile.

        Raises
        ------
        EngineError
            If it cannot be opened.
        """
        wanted = (options.engine, options.precision, options.threads, options.tiles_at_once)
        key = (bundle.sha256, *wanted, tile_hw)
        engine = self._engines.pop(key, None) or self._open_engine(bundle, options, tile_hw)
        try:
            yield engine
        except BaseException:
            engine.close()
            raise
        self._engines[key] = engine
        while len(self._engines) > self._kept:
            self._engines.popitem(last=False)[1].close()

    def close(self) -> None:
        """Close all of them; the next call opens one again."""
        while self._engines:
            self._engines.popitem()[1].close()
