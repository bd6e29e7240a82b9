"""Which outputs a run makes, of those that are asked for: settled before a tile is run."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from cellseg.errors import CellsegError, StoreError
from cellseg.runtime.jobs.outputs import DEFAULT_OUTPUTS, OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.outputs import Output
    from cellseg.runtime.store.result_store import Plane

__all__ = ["draws_cells", "outputs_for", "planes_for"]


def outputs_for(names: Iterable[str], job: Job) -> dict[str, Output]:
    """Return the outputs that a run is to make, in the table's order, before a tile is run.

    Parameters
    ----------
    names : iterable of str
        What is wanted. Of a model that tells no cells apart, what is made of cells is left out of
        the outputs that are made where nothing is asked for.
    job : Job
        Its size counts, and whether its cells are told apart.

    Raises
    ------
    CellsegError
        If the slide is too large for one of them or has no pixel size, a package is missing, or
        one is asked for that is made of cells, which the model does not tell apart.
    """
    names = set(names)
    if not job.tells_cells:
        names = _without_cells(names, job)
    named = [each for name in names for each in (name, *OUTPUTS[name].brings)]
    wanted = {_with_package(name) for name in named}
    found = {name: output for name, output in OUTPUTS.items() if name in wanted}
    for name, output in found.items():
        _check_size(name, output, job.view.hw)
        _check_pixel_size(name, output, job)
        _check_package(name, output)
    return found


def _without_cells(names: set[str], job: Job) -> set[str]:
    """Leave cells out of the default outputs; refuse those that were asked for by name."""
    of_cells = {name for name in names if OUTPUTS[name].needs == "cells"}
    left_out = set(DEFAULT_OUTPUTS) if names.issuperset(DEFAULT_OUTPUTS) else set()
    refused = sorted(of_cells - left_out)
    if refused:
        card = job.bundle.manifest
        raise CellsegError(
            f"Output {refused[0]!r} is made of cells, and the model must tell them apart. "
            f"Received: model={card.name}, which finds classes of pixels only.",
            hint=f"Leave {', '.join(refused)} out of --write, or choose another model.",
        )
    return names - of_cells


def planes_for(outputs: Collection[Output], job: Job) -> tuple[Plane, ...]:
    """Return what must be kept of each tile of a job to make some outputs."""
    planes: list[Plane] = ["classes"]
    if any(output.needs == "probability" for output in outputs):
        planes.append("probability")
    if any(draws_cells(output, job) for output in outputs):
        planes.append("interior")
    return tuple(planes)


def draws_cells(output: Output, job: Job) -> bool:
    """Tell whether an output is made from the cells of a job, which must be told apart then."""
    is_small = max(job.view.hw) <= output.cells_up_to_px
    return output.needs == "cells" or (job.tells_cells and is_small)


def _check_size(name: str, output: Output, hw: tuple[int, int]) -> None:
    if output.limit_px is None or hw[0] * hw[1] <= output.limit_px:
        return
    instead = f"Use --write {output.instead}, which has no such limit." if output.instead else None
    raise CellsegError(
        f"Output {name!r} is one flat picture, for at most {output.limit_px / 1e6:.0f} megapixels. "
        f"Received: {hw[1]} x {hw[0]} px.",
        hint=instead,
    )


def _check_pixel_size(name: str, output: Output, job: Job) -> None:
    if not output.needs_mpp or job.view.mpp is not None:
        return
    raise CellsegError(
        f"Output {name!r} needs the size of a pixel. Received: {job.slide.path} without one.",
        hint="Give it, in microns: --mpp 0.5",
    )


def _with_package(name: str) -> str:
    """Return the output itself, or what takes its place without its package."""
    output = OUTPUTS[name]
    if output.without_package is None or _installed(output.package) is not None:
        return name
    return output.without_package


def _installed(package: str | None) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return None if package is None else version(package)
    except PackageNotFoundError:
        return None


def _check_package(name: str, output: Output) -> None:
    if output.package is None:
        return
    found = _installed(output.package) or "not installed"
    numbers = tuple(map(int, re.findall(r"\d+", found)))
    if numbers and numbers >= output.least:
        return
    least = ".".join(map(str, output.least))
    wanted = output.package + (f" {least} or newer" if least else "")
    raise StoreError(
        f"Output {name!r} needs {wanted}. Received: {found}.",
        hint=f"pip install 'cellseg[{output.extra}]'",
    )
