"""The matrix: every contestant that the options ask for, and why some cannot run here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg.bench.record import Contestant
from cellseg.errors import BenchError, EngineError, TilePlanError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines import ENGINES, choose_engine
from cellseg.runtime.machine.facts import usable_cores
from cellseg.runtime.tiles.plan import plan_tiles, tile_px_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellseg.bench.options import BenchOptions

__all__ = ["Matrix", "plan_matrix"]

Cell = tuple[str, str]  # engine, precision
_MOST_THREADS_A_CORE = 4


@dataclass(frozen=True)
class Matrix:
    """Who runs, in the order of the report."""

    bundles: dict[str, Bundle]
    """By the name that contestants have."""

    paths: dict[str, str]
    """What workers open, by the same name."""

    contestants: tuple[Contestant, ...]

    unavailable: dict[str, str]
    """Why a contestant cannot run here, by its key."""


def plan_matrix(options: BenchOptions) -> Matrix:
    """List the contestants.

    Raises
    ------
    BenchError
        If none can run, or a name is unknown.
    """
    _check_threads(options.threads)
    _check_precisions(options.precisions)
    bundles = _open_all(options.models)
    found: list[Contestant] = []
    unavailable: dict[str, str] = {}
    for name, (_, bundle) in bundles.items():
        for engine, precision in _cells(bundle, options):
            obstacle = _obstacle(bundle, engine, precision)
            for contestant in _contestants(name, bundle, (engine, precision), options):
                found.append(contestant)
                reason = obstacle or _misfit(bundle, contestant)
                if reason is not None:
                    unavailable[contestant.key] = reason
    contestants = tuple(sorted(found, key=lambda c: options.scenarios.index(c.scenario)))
    if not set(unavailable) < {contestant.key for contestant in contestants}:
        raise BenchError(
            "At least one contestant must be able to run here. Received: "
            f"{'; '.join(dict.fromkeys(unavailable.values())) or 'none'}",
            hint="See 'cellseg-cli doctor' for what this machine can run.",
        )
    opened = {name: bundle for name, (_, bundle) in bundles.items()}
    paths = {name: path for name, (path, _) in bundles.items()}
    return Matrix(opened, paths, contestants, unavailable)


def _check_threads(threads: tuple[int, ...]) -> None:
    """Refuse a slip of the hand, which a machine can hang on."""
    most = _MOST_THREADS_A_CORE * (os.cpu_count() or 1)
    if max(threads, default=0) > most:
        raise BenchError(
            f"More than {_MOST_THREADS_A_CORE} threads a core tell nothing. "
            f"Received: threads={max(threads)}, and at most {most} here."
        )


def _check_precisions(precisions: tuple[str, ...]) -> None:
    known = list(dict.fromkeys(name for entry in ENGINES.values() for name in entry.runs))
    unknown = [name for name in precisions if name not in ("auto", *known)]
    if unknown:
        raise BenchError(
            f"Precisions are auto, {', '.join(known)}. Received: {', '.join(unknown)}.",
            hint="Several are given as --precision fp32,int8.",
        )


def _open_all(models: tuple[str, ...]) -> dict[str, tuple[str, Bundle]]:
    """Open bundles under short names; two of one name keep their paths."""
    opened = {path: Bundle.open(path) for path in dict.fromkeys(models)}
    short = [Path(path).stem for path in opened]
    names = [
        stem if short.count(stem) == 1 else path for stem, path in zip(short, opened, strict=True)
    ]
    return dict(zip(names, opened.items(), strict=True))


def _cells(bundle: Bundle, options: BenchOptions) -> Iterator[Cell]:
    """Yield engines with precisions, each once."""
    seen: set[Cell] = set()
    for engine in options.engines or [n for n, entry in ENGINES.items() if entry.is_available()]:
        for cell in _cells_of(bundle, engine, options.precisions):
            if cell not in seen:
                seen.add(cell)
                yield cell


def _cells_of(bundle: Bundle, engine: str, precisions: tuple[str, ...]) -> Iterator[Cell]:
    if engine == "auto":
        for precision in precisions or ("auto",):
            choice = choose_engine(bundle, "auto", precision, usable_cores())
            yield choice.engine, choice.precision
        return
    if engine not in ENGINES:
        raise BenchError(
            f"Engines are auto, {', '.join(ENGINES)}. Received: engine={engine!r}.",
            hint="Several are given as --engine openvino,onnxruntime.",
        )
    runs = ENGINES[engine].runs
    known = [p for p, needs in runs.items() if needs.pick(bundle.variants) and _computes(engine, p)]
    for precision in precisions or known:
        yield engine, precision


def _computes(engine: str, precision: str) -> bool:
    """Tell whether the processor has what a precision needs; asked where nobody asked for it."""
    from cellseg.runtime.machine.facts import this_machine

    flags = this_machine().cpu_flags or ()
    return ENGINES[engine].needs_gpu or precision != "bf16" or bool({"bf16", "amx"} & set(flags))


def _obstacle(bundle: Bundle, engine: str, precision: str) -> str | None:
    """Say why a bundle cannot run so here; None if it can be tried."""
    try:
        choose_engine(bundle, engine, precision, 1)
    except EngineError as error:
        return str(error)
    return None


def _misfit(bundle: Bundle, who: Contestant) -> str | None:
    """Say why tiles of a size do not fit a model; of frames and cold starts, too."""
    card = bundle.manifest
    try:
        plan_tiles((who.tile_px, who.tile_px), who.tile_px, card.halo_px, card.stride)
    except TilePlanError as error:
        return f"{error} {error.hint}"
    return None


def _contestants(
    name: str, bundle: Bundle, cell: Cell, options: BenchOptions
) -> Iterator[Contestant]:
    card = bundle.manifest
    tiles = options.tiles_px or (tile_px_for(card.halo_px, card.stride),)
    threads: tuple[int | None, ...] = options.threads or (None,)
    for scenario, tile, batch, count in product(options.scenarios, tiles, options.batches, threads):
        if batch != options.batches[0] and scenario in ("stream", "cold"):
            continue  # a frame and a first result are one query whatever the batch
        yield Contestant(
            scenario=scenario,
            model=name,
            engine=cell[0],
            precision=cell[1],
            tile_px=tile,
            batch=1 if scenario in ("stream", "cold") else batch,
            threads=count,
        )
