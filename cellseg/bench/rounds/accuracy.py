"""Accuracy beside every speed: measured on named sets, or what the bundle states.

A variant is scored by the engine that is timed, whole images one by one, in a process of its own:
``python -m cellseg.bench.rounds.accuracy REQUEST``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from cellseg.bench.record import Accuracy
from cellseg.errors import BenchError, CellsegError

if TYPE_CHECKING:
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.bundles.manifest import Quality
    from cellseg.runtime.evaluation.labelled import LabelledImage

__all__ = ["AccuracyRequest", "check_sets", "measure_accuracy", "stated_accuracy"]


class AccuracyRequest(BaseModel):
    """A variant, by whom it is run, and the folders to score it on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_path: str
    engine: str
    precision: str
    threads: int | None
    sets: dict[str, str]
    """Name to folder."""


def check_sets(sets: dict[str, Path]) -> None:
    """Refuse what cannot be scored before anything is timed.

    Raises
    ------
    BenchError
        If a folder holds no image, or one that has no truth.
    """
    from cellseg.runtime.evaluation.labelled import find_images

    for name, folder in sets.items():
        images = folder / "images"
        found = find_images(images) if images.is_dir() else []
        if not found:
            raise BenchError(
                f"An accuracy set must hold images. Received: {name}={folder}, "
                "no image in its images/.",
                hint="Name a folder that holds images/ and masks/ (or labels/): "
                "--accuracy-set test=DATA/test.",
            )
        bare = [path.name for path in found if not _has_truth(folder, path.stem)]
        if bare:
            raise BenchError(
                "Every image of an accuracy set must have a mask or labels. "
                f"Received: {name}={folder}, {len(bare)} of {len(found)} without, e.g. {bare[0]}.",
                hint="Masks and labels are PNG files of the images' names, in masks/ or labels/.",
            )


def _has_truth(folder: Path, stem: str) -> bool:
    return any((folder / kind / f"{stem}.png").is_file() for kind in ("masks", "labels"))


def measure_accuracy(request: AccuracyRequest) -> list[Accuracy]:
    """Score one variant on all sets, in this process.

    Raises
    ------
    CellsegError
        If the engine or the images cannot be used.
    """
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.engines import ENGINES
    from cellseg.runtime.evaluation.quality import ModelRunner, score_images
    from cellseg.runtime.machine.facts import usable_cores

    bundle = Bundle.open(request.model_path)
    variant = ENGINES[request.engine].runs[request.precision].pick(bundle.variants)
    if variant is None:
        raise BenchError(f"The bundle has no variant for {request.engine} {request.precision}.")
    runner = ModelRunner(
        bundle.read_variant(variant.file),
        bundle.manifest,
        request.engine,
        request.precision,
        request.threads or usable_cores(),
    )
    found = []
    for name, folder in request.sets.items():
        images = _read(bundle, Path(folder))
        score = score_images(runner, images, bundle.manifest, name)
        found.append(_accuracy(score.quality, "measured"))
    runner.close()
    return found


def stated_accuracy(bundle: Bundle, engine: str, precision: str) -> list[Accuracy]:
    """Return what the bundle states of a variant; by this engine, where it was measured by it."""
    from cellseg.runtime.engines import ENGINES

    needs = ENGINES[engine].runs.get(precision)
    variant = None if needs is None else needs.pick(bundle.variants)
    if variant is None or variant.precision != precision:  # bf16 from an fp32 file: not measured
        return []
    own = [quality for quality in variant.quality if quality.engine == engine]
    return [_accuracy(quality, "bundle") for quality in own or variant.quality]


def _read(bundle: Bundle, folder: Path) -> list[LabelledImage]:
    from cellseg.runtime.evaluation.labelled import read_labelled
    from cellseg.runtime.view.normalize import Normalize

    spec = bundle.manifest.input.normalize
    names = [item.name for item in bundle.manifest.classes]
    return read_labelled(folder, names, Normalize(spec.kind, spec.low, spec.high))


def _accuracy(quality: Quality, origin: Any) -> Accuracy:
    return Accuracy(
        dataset=quality.dataset,
        images=quality.images,
        dice=quality.dice,
        object_f1=quality.object_f1,
        count_error=quality.count_error,
        origin=origin,
        engine=quality.engine,
    )


def _main(words: list[str]) -> None:
    """Print what was measured, as JSON on the last line."""
    try:
        found = measure_accuracy(AccuracyRequest.model_validate_json(words[0]))
    except CellsegError as error:
        sys.exit(f"{error}" + (f" hint: {error.hint}" if error.hint else ""))
    listed = ",".join(item.model_dump_json() for item in found)
    print(f'{{"accuracy":[{listed}]}}', flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
