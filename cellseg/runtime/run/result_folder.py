"""The folder of a result: its name, its log, and the finished run that it may hold."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellseg.errors import CellsegError, StoreError
from cellseg.runtime.jobs.outputs import OUTPUTS
from cellseg.runtime.run.results import RUN_JSON
from cellseg.runtime.store.result_store import STORE_NAME
from cellseg.runtime.writers.facts import output_bytes, remove_output
from cellseg.runtime.writers.run_json import RUN_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.jobs.outputs import Output

__all__ = [
    "LOG_NAME",
    "check_apart",
    "check_own",
    "forget_run",
    "logged_to",
    "lost_files",
    "made_folder",
    "missing_outputs",
    "read_report",
    "result_folder",
]

LOG_NAME = "run.log"
_DOUBLE_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.btf", ".ome.zarr")
_NOT_IN_NAMES = '<>:"/\\|?*\ufffd'


def result_folder(slide: str | os.PathLike[str], out_dir: str | os.PathLike[str]) -> Path:
    """Return the folder that a slide's result goes to: ``out_dir`` / its name without suffix.

    Examples
    --------
    >>> result_folder("scans/a.b.ome.tif", "out").as_posix()
    'out/a.b'
    >>> result_folder("...png", "out").as_posix()  # not the folder above
    'out/slide'
    """
    stem = _stem(Path(slide))
    # Libraries that write files take names that are UTF-8; bytes that are not come as surrogates.
    text = stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    safe = "".join("_" if letter in _NOT_IN_NAMES else letter for letter in text)
    return Path(out_dir) / (safe if safe.strip(".") else "slide")


def _stem(slide: Path) -> str:
    name = slide.name
    double = next((end for end in _DOUBLE_SUFFIXES if name.lower().endswith(end)), "")
    if double:
        return name[: -len(double)]
    # The name of a folder of DICOM files has no suffix, though it may have points: 1.2.840.10008
    is_plain_folder = slide.suffix.lower() != ".zarr" and slide.is_dir()
    return name if is_plain_folder else slide.stem


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder; remove it again if a run was refused before it wrote anything."""
    _check_spelling(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"Results must be written to a folder that can be made. Received: {folder} "
            f"({error.strerror}).",
            hint="Choose another folder with -o.",
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def _check_spelling(folder: Path) -> None:
    """Refuse a name that the system cannot spell, or that libraries that write files cannot."""
    name = str(folder)
    try:
        os.fsencode(name)
        name.encode("utf-8")  # fails for bytes of a name that are no text in the locale
    except UnicodeEncodeError as error:
        encoding = sys.getfilesystemencoding()
        raise StoreError(
            "Results must be written to a folder whose name the locale can spell. "
            f"Received: folder={name!a}, encoding={encoding}.",
            hint="Set a UTF-8 locale (export LC_ALL=C.UTF-8), or choose another name with -o.",
        ) from error


@contextmanager
def logged_to(folder: Path) -> Iterator[None]:
    """Copy the package's log to a file while a run lasts, and last why it ended, if it failed.

    A log that cannot be kept is no error. A run that was refused before it said a word writes none.
    """
    logger = logging.getLogger("cellseg")
    handler = _QuietFileHandler(
        folder / LOG_NAME, encoding="utf-8", errors="backslashreplace", delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    except BaseException as error:
        if handler.stream is not None:
            handler.handle(_last_record(logger, error))  # the console is told by who catches it
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()


def _last_record(logger: logging.Logger, error: BaseException) -> logging.LogRecord:
    is_ours = isinstance(error, CellsegError)
    text = str(error) if is_ours else f"{type(error).__name__} {error}".rstrip()
    return logger.makeRecord(logger.name, logging.ERROR, __file__, 0, "%s", (text,), None)


def read_report(folder: Path) -> dict[str, Any] | None:
    """Return the report of a finished run; None where there is none that we wrote."""
    try:
        report = json.loads((folder / RUN_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(report, dict) and report.get("schema") == RUN_SCHEMA
    return report if is_ours and report.get("status") == "done" else None


def lost_files(folder: Path, report: dict[str, Any]) -> list[str]:
    """Return what a report names that is gone, or has not the size it states."""
    made = report["outputs"].items()
    return [name for name, facts in made if output_bytes(folder / name) != facts["bytes"]]


def missing_outputs(
    folder: Path, report: dict[str, Any], wanted: Iterable[Output], options: InferOptions
) -> list[Output]:
    """Return which outputs are not in a folder as a report names them, or with other settings."""
    lost = lost_files(folder, report)
    made = {name: facts for name, facts in report["outputs"].items() if name not in lost}
    return [
        output
        for output in wanted
        if not output.settings_of(options).items() <= made.get(output.file, {}).items()
        or output.file not in made
    ]


def check_apart(folder: Path, slide: Path) -> None:
    """Refuse to write a result into the folder that a slide is.

    Raises
    ------
    StoreError
        Its files would become part of the slide, which were another one from then on.
    """
    from cellseg.runtime.slides.ngff import is_zarr_folder

    if not slide.is_dir():
        return
    inner, outer = folder.resolve(), slide.resolve()
    if inner == outer or (outer in inner.parents and is_zarr_folder(slide)):
        raise StoreError(
            f"Results must lie beside a slide that is a folder. Received: {folder} in {slide}.",
            hint="Choose another folder with -o.",
        )


def check_own(folder: Path) -> None:
    """Refuse a folder with files of somebody else that have the names of ours.

    Folders of one image, its mask beside it, are a common form of data sets.

    Raises
    ------
    StoreError
        They would be replaced, and who drew a mask has no other.
    """
    if any((folder / mark).exists() for mark in (RUN_JSON, STORE_NAME, LOG_NAME)):
        return
    names = (output.file for output in OUTPUTS.values())
    foreign = [name for name in names if (folder / name).exists()]
    if foreign:
        raise StoreError(
            "Results must not replace files that no run made. "
            f"Received: folder={folder}, with {', '.join(foreign)}.",
            hint="Choose another folder with -o, or move those files.",
        )


def forget_run(folder: Path) -> None:
    """Remove a run's outputs, its report first: from now on the folder holds an unfinished one.

    Those, too, that no report names: a run that was killed while it wrote them may have been asked
    for more than the one that goes on.
    """
    for name in (RUN_JSON, *(output.file for output in OUTPUTS.values())):
        remove_output(folder / name)


class _QuietFileHandler(logging.FileHandler):
    """A full disk must not print a traceback for every line, a closed file not stop a run."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; the first one opens the file."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the line."""
