"""Several slides one after the other: a bad one does not stop the others."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellseg.errors import CellsegError, StoreError, broken_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from cellseg.runtime.infer import RunResult
    from cellseg.runtime.jobs.options import InferOptions, ProgressCallback
    from cellseg.runtime.run.engine_shelf import EngineShelf

    Watch = Callable[[Path], AbstractContextManager[ProgressCallback]]

__all__ = ["Outcome", "infer_batch"]

_ENGINES_KEPT = 4  # a folder of fields seldom has more sizes
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one input: a result or an error."""

    input: Path
    """The slide or image."""

    result: RunResult | None = None
    """Folder and report of the run; None if it failed."""

    error: CellsegError | None = None
    """Why it failed; None if it did not."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        if self.error is not None:
            return {"input": str(self.input), "error": str(self.error), "hint": self.error.hint}
        assert self.result is not None
        return {
            "input": str(self.input),
            "folder": str(self.result.folder),
            "run": self.result.report,
        }


def infer_batch(
    slides: Sequence[Path], out_dir: Path, options: InferOptions, watch: Watch
) -> Iterator[Outcome]:
    """Run slides one after the other.

    Slides whose results would share a folder are left out, all of them: which of them has the
    folder must not depend on their order, nor on a file that comes later.

    Parameters
    ----------
    slides : sequence of Path
        As :func:`cellseg.runtime.inputs.expand_inputs` gives them.
    out_dir : Path
        Each slide has a folder of its own in it.
    options : InferOptions
        The same for all.
    watch : callable
        Makes a context for a slide that gives its progress callback.

    Yields
    ------
    Outcome
        One for each slide, in order, as soon as it is known.

    Raises
    ------
    BundleError
        If there is no such model; nothing is run then.
    """
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.jobs.job import open_engine_for
    from cellseg.runtime.run.engine_shelf import EngineShelf

    Bundle.open(options.model)
    clashes = _clashes(slides, out_dir)
    if clashes:  # said before the others run, which may take the night
        _LOG.warning("%d of %d inputs share a result folder: left out", len(clashes), len(slides))
    with closing(EngineShelf(open_engine_for, _ENGINES_KEPT)) as engines:
        for slide in slides:
            if slide in clashes:
                yield Outcome(slide, error=clashes[slide])
            else:
                shelf = engines if len(slides) > 1 else None
                yield _outcome(slide, out_dir, options, watch, shelf)


def _outcome(
    slide: Path, out_dir: Path, options: InferOptions, watch: Watch, engines: EngineShelf | None
) -> Outcome:
    from cellseg.runtime.infer import infer_slide

    try:
        with watch(slide) as progress:
            result = infer_slide(slide, out_dir, options, progress, engines=engines)
            return Outcome(slide, result=result)
    except CellsegError as error:
        return Outcome(slide, error=error)
    except Exception as error:  # a fault of ours on one slide must not cost the others their night
        return Outcome(slide, error=broken_package(error) or _fault(slide, error))


def _fault(slide: Path, error: Exception) -> CellsegError:
    _LOG.exception("%s: unexpected error", slide)
    return CellsegError(
        f"{slide}: unexpected {type(error).__name__}: {error}.",
        hint="This is a fault in cellseg; please report it with the lines above.",
    )


def _clashes(slides: Sequence[Path], out_dir: Path) -> dict[Path, StoreError]:
    """Return why slides are refused whose folder is also another's."""
    from cellseg.runtime.run.result_folder import result_folder

    owners: dict[Path, list[Path]] = {}
    for slide in dict.fromkeys(slides):
        owners.setdefault(result_folder(slide, out_dir), []).append(slide)
    return {
        slide: _clash(slide, next(other for other in sharing if other != slide), folder)
        for folder, sharing in owners.items()
        if len(sharing) > 1
        for slide in sharing
    }


def _clash(slide: Path, other: Path, folder: Path) -> StoreError:
    return StoreError(
        f"Each input needs a result folder of its own. Received: {slide} and {other} for {folder}.",
        hint="Name those that are meant, as in infer 'FOLDER/*.svs', or run them one by "
        "one with different -o folders.",
    )
