"""Which engine and variant to run: what was asked for, or the fastest that is good enough.

``auto`` takes the variants whose measured quality (in the manifest) keeps at least ``min_quality``
of fp32; of a bundle that was made without labelled images, those that agree with fp32 that far, and
says so. It runs each engine on them for a moment, and picks the fastest. The choice is kept in
``engines.json`` in the user's cache folder, by machine, bundle and versions, so that every slide is
run by the same engine. One that does not open any more is given up for the next best.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.errors import EngineError
from cellseg.runtime.engines.base import Engine, EngineOptions, ForkedError
from cellseg.runtime.engines.bystanders import Bystanders
from cellseg.runtime.engines.measure import Measurement, measure_speed
from cellseg.runtime.engines.memory import forget, recall, remember
from cellseg.runtime.engines.table import ENGINES
from cellseg.runtime.machine.facts import this_machine, usable_cores

if TYPE_CHECKING:
    from cellseg.runtime.bundles.bundle import Bundle, Variant

__all__ = ["Choice", "check_engine", "choose_engine", "open_choice", "open_engine"]

_LOG = logging.getLogger(__name__)
_TRIAL_PX = 512  # one size for all: images of a folder are not to be run by different engines
_SPARING_TRIAL_PX = 256


@dataclass(frozen=True)
class Choice:
    """An engine, a precision and the file it runs."""

    engine: str
    precision: str
    file: str

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


def open_engine(
    bundle: Bundle,
    engine: str = "auto",
    precision: str = "auto",
    tile_hw: tuple[int, int] = (1024, 1024),
    threads: int | None = None,
    min_quality: float = 0.99,
    one_at_a_time: bool = False,
    most_at_once: int | None = None,
    sparing: bool = False,
) -> Engine:
    """Open a bundle's model for tiles of one shape.

    Parameters
    ----------
    bundle : Bundle
        The model.
    engine : str
        A name in ``ENGINES``, or ``auto``.
    precision : str
        ``fp32``, ``bf16``, ``fp16``, ``int8`` or ``auto``.
    tile_hw : (int, int)
        Height and width of every tile, multiples of the bundle's stride.
    threads : int, optional
        Threads to compute with; by default every core this process may use.
    min_quality : float
        Smallest share of the fp32 quality, or agreement with fp32 where only that was measured,
        that ``precision="auto"`` accepts, 0..1.
    one_at_a_time : bool
        Whether a tile's latency counts rather than tiles a second: camera frames.
    most_at_once : int, optional
        Most tiles to work on side by side; by default as many as is fastest.
    sparing : bool
        Whether a choice is made with little memory: engines are tried one after the other, on
        small tiles.

    Raises
    ------
    EngineError
        If the engine is not installed, does not run the precision, or the tile does not fit; where
        there is a choice, if none of the engines opens.
    """
    _check_tile(tile_hw, bundle.manifest.stride)
    threads = usable_cores() if threads is None else max(1, threads)
    choices = _candidates(bundle, engine, precision, min_quality)
    while True:
        tell = "auto" in (engine, precision)
        choice = _choose(bundle, choices, threads, tell=tell, sparing=sparing)
        try:
            return open_choice(bundle, choice, tile_hw, threads, one_at_a_time, most_at_once)
        except EngineError as error:
            if len(choices) == 1 or isinstance(error, ForkedError):
                raise
            _tell_failure(choice, error)
        for is_sparing in {sparing, False}:  # either may have named it
            forget(_memory_key(bundle, choices, threads, sparing=is_sparing))
        choices.remove(choice)


def choose_engine(
    bundle: Bundle,
    engine: str,
    precision: str,
    threads: int,
    min_quality: float = 0.99,
    *,
    sparing: bool = False,
) -> Choice:
    """Decide which engine and variant to run; measures only where there is a choice.

    Parameters are those of :func:`open_engine`, which logs the reason: plans ask more than once.
    """
    choices = _candidates(bundle, engine, precision, min_quality)
    return _choose(bundle, choices, threads, tell=False, sparing=sparing)


def _choose(
    bundle: Bundle, choices: list[Choice], threads: int, *, tell: bool, sparing: bool
) -> Choice:
    """Take the only choice, the one that is remembered, or the fastest."""
    if len(choices) == 1:
        if tell:
            _LOG.info("engine: %s (the only one that fits)", choices[0])
        return choices[0]
    key = _memory_key(bundle, choices, threads, sparing=sparing)
    # What was measured with more memory serves with less, too: runs agree that way.
    known = recall(_memory_key(bundle, choices, threads, sparing=False)) or recall(key)
    for choice in choices:
        if known == str(choice) and _loads(choice):
            if tell:
                _LOG.info("engine: %s (measured earlier on this machine)", choice)
            return choice
    with Bystanders() as others:
        best = _fastest(bundle, choices, threads, sparing=sparing)
    remember(key, str(best), disturbed=others.disturbed)
    return best


def _loads(choice: Choice) -> bool:
    """Whether the engine can be imported: a package may break and keep its version."""
    try:
        ENGINES[choice.engine].load(choice.engine)
    except EngineError:  # the trial that follows says it
        return False
    return True


def check_engine(bundle: Bundle, engine: str, precision: str, min_quality: float = 0.99) -> None:
    """Raise EngineError if nothing that is installed fits the request; nothing is opened.

    Parameters are those of :func:`open_engine`.
    """
    _candidates(bundle, engine, precision, min_quality)


def _candidates(bundle: Bundle, engine: str, precision: str, min_quality: float) -> list[Choice]:
    """List what fits the request, in the order of the table, or say why nothing does."""
    if engine != "auto" and engine not in ENGINES:
        raise EngineError(
            f"engine must be one of {['auto', *ENGINES]}. Received: engine={engine!r}."
        )
    if engine != "auto":
        ENGINES[engine].require(engine)
    names = [engine] if engine != "auto" else [n for n, e in ENGINES.items() if e.is_available()]
    if not names:
        raise EngineError(
            "At least one inference engine must be installed. Received: none.",
            hint=f"pip install {' '.join(entry.pip for entry in ENGINES.values())}",
        )
    choices = [
        Choice(name, run, variant.file)
        for name in names
        for run, needs in ENGINES[name].runs.items()
        if (variant := needs.pick(bundle.variants)) is not None
        and (run == precision or (precision == "auto" and _is_good(run, variant, min_quality)))
    ]
    if not choices:
        raise EngineError(
            "The bundle must hold a variant that the engine runs. Received: "
            f"engine={engine!r}, precision={precision!r}, "
            f"bundle with {sorted({v.precision for v in bundle.variants})}, "
            f"engines with {sorted({run for name in names for run in ENGINES[name].runs})}.",
            hint="Leave --engine and --precision at auto, or export the bundle with it.",
        )
    if precision == "auto":
        _tell_agreement(bundle, min_quality)
    return choices


def _is_good(run: str, variant: Variant, min_quality: float) -> bool:
    """Only what was measured counts: computing an fp32 file in bf16 was not."""
    kept = variant.retained if run == variant.precision else None
    return kept is not None and kept >= min_quality


def _tell_agreement(bundle: Bundle, min_quality: float) -> None:
    """Say which files count by agreement with fp32, or do not: nobody measured their quality."""
    for variant in bundle.variants:
        kept = variant.retained
        if variant.agreement and variant.vs_fp32 is None and kept is not None:
            _LOG.info(
                "engine: %s %s: it agrees with fp32 to %.4f (asked: %.4g); its quality was not "
                "measured on labelled images",
                variant.file, "may run" if kept >= min_quality else "is left out", kept,
                min_quality,
            )  # fmt: skip


def _fastest(bundle: Bundle, choices: list[Choice], threads: int, *, sparing: bool) -> Choice:
    side_px = _trial_px(bundle, sparing=sparing)
    measured: dict[Choice, Measurement] = {}
    for group in [[choice] for choice in choices] if sparing else [choices]:
        measured |= _measured(bundle, group, side_px, threads, 1 if sparing else None)
    if not measured:
        raise EngineError(
            f"At least one engine must open the model. Received: {[*map(str, choices)]} failed.",
            hint="See the warnings above, or run 'cellseg-cli doctor'.",
        )
    return _log_and_pick(measured, side_px)


def _measured(
    bundle: Bundle, choices: list[Choice], side_px: int, threads: int, most_at_once: int | None
) -> dict[Choice, Measurement]:
    """Measure by turns those that open."""
    hw = (side_px, side_px)
    tried = {choice: _try_open(bundle, choice, hw, threads, most_at_once) for choice in choices}
    engines = {choice: engine for choice, engine in tried.items() if engine is not None}
    try:
        return measure_speed(engines) if engines else {}
    finally:
        for engine in engines.values():
            engine.close()


def _log_and_pick(measured: dict[Choice, Measurement], side_px: int) -> Choice:
    ranked = sorted(measured, key=lambda choice: -measured[choice].px_per_s)
    table = ", ".join(f"{c} {measured[c].px_per_s / 1e6:.2f} MP/s" for c in ranked)
    _LOG.info("engine: %s is the fastest on %d px tiles here (%s)", ranked[0], side_px, table)
    return ranked[0]


def _try_open(
    bundle: Bundle,
    choice: Choice,
    tile_hw: tuple[int, int],
    threads: int,
    most_at_once: int | None,
) -> Engine | None:
    try:
        return open_choice(bundle, choice, tile_hw, threads, most_at_once=most_at_once)
    except ForkedError:  # what is chosen without it would be remembered for all processes
        raise
    except EngineError as error:
        _tell_failure(choice, error)
        return None


def _tell_failure(choice: Choice, error: EngineError) -> None:
    _LOG.warning("engine: %s cannot be used: %s", choice, error)


def open_choice(
    bundle: Bundle,
    choice: Choice,
    tile_hw: tuple[int, int],
    threads: int,
    one_at_a_time: bool = False,
    most_at_once: int | None = None,
) -> Engine:
    """Open what was chosen; see `open_engine`."""
    adapter = ENGINES[choice.engine].load(choice.engine)
    channels = len(bundle.manifest.channels)
    options = EngineOptions(
        choice.precision, tile_hw, channels, threads, one_at_a_time, most_at_once
    )
    engine: Engine = adapter(bundle.read_variant(choice.file), options)
    return engine


def _check_tile(tile_hw: tuple[int, int], stride: int) -> None:
    if any(size < 1 or size % stride for size in tile_hw):
        raise EngineError(
            f"Tile height and width must be multiples of the model's stride, {stride}. "
            f"Received: tile_hw={tile_hw}."
        )


def _trial_px(bundle: Bundle, *, sparing: bool) -> int:
    wanted = _SPARING_TRIAL_PX if sparing else _TRIAL_PX
    return -(-wanted // bundle.manifest.stride) * bundle.manifest.stride


def _memory_key(
    bundle: Bundle, choices: list[Choice], threads: int, *, sparing: bool
) -> dict[str, object]:
    machine = this_machine()
    return {
        "bundle": bundle.sha256,
        "cpu": machine.cpu,
        "flags": machine.cpu_flags,
        "cores": machine.cores,
        "threads": threads,
        "tile_px": _trial_px(bundle, sparing=sparing),
        "choices": [str(choice) for choice in choices],
        "versions": {c.engine: ENGINES[c.engine].installed_version for c in choices},
    }
