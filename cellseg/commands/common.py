"""What all commands share: errors, printing, and extras that may be missing."""

from __future__ import annotations

import errno
import functools
import inspect
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from cellseg.commands import options as opt
from cellseg.errors import CellsegError, broken_package

if TYPE_CHECKING:
    from cellseg.train.sections import Recipe

P = ParamSpec("P")
R = TypeVar("R")
_HELP_HINT = "The command with --help says what may be given."

__all__ = [
    "counted",
    "in_our_words",
    "load_recipe",
    "needs_extra",
    "print_error",
    "print_json",
    "progress_bar",
    "prose",
    "reports_errors",
    "show_logs",
]


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn our errors into ``error:`` and ``hint:`` and exit code 1, Ctrl-C and SIGTERM into 130.

    So are files that the system does not let us read or write, and packages that do not load,
    wherever that happens: they are no fault of the program, which a traceback would say.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _stopped_by_sigterm():
                return command(*args, **kwargs)
        except CellsegError as error:
            print_error(error)
            raise typer.Exit(1) from error
        except (OSError, ImportError) as error:
            known = in_our_words(error)
            if known is None:
                raise
            print_error(known)
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None

    return wrapped


def in_our_words(error: OSError | ImportError) -> CellsegError | None:
    """Return the error for what is no fault of ours; None where it is."""
    return broken_package(error) if isinstance(error, ImportError) else _refusal_of_system(error)


def _refusal_of_system(error: OSError) -> CellsegError | None:
    """Say in our words what the system refused; None where it is not about a file or the disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = "" if error.filename is None else f"{error.filename}: "
        return CellsegError(
            f"The disk must have room. Received: {where}{error.strerror}.",
            hint="Free some space and give the same command again.",
        )
    if error.filename is None:
        return None
    return CellsegError(
        f"Files must be there and open to you. Received: {error.filename}: {error.strerror}.",
        hint="Check the name, the disk and its permissions.",
    )


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let a service manager or a job queue stop a command as Ctrl-C does, while this lasts."""
    if threading.current_thread() is not threading.main_thread():  # signals are not ours there
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def print_error(error: CellsegError) -> None:
    """Print an error and its hint to stderr; there is always a hint: programs wait for it."""
    typer.echo(f"error: {error}", err=True)
    typer.echo(f"\nhint: {error.hint or _HELP_HINT}", err=True)


def print_json(value: Any) -> None:
    """Print a value that a program reads, to stdout."""
    typer.echo(json.dumps(value, indent=2))


def show_logs(verbose: bool) -> None:
    """Let log records appear on stderr: warnings, and with ``--verbose`` what is going on."""
    from cellseg import console

    console.show_logs(console.stderr(), verbose)


def load_recipe(name: str, settings: list[str] | None, verbose: bool) -> Recipe:
    """Load a recipe by name or path, with ``--set`` settings in it."""
    show_logs(verbose)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow greets at length
    with needs_extra("train"):
        from cellseg.train.recipes.recipe import load_recipe
    return load_recipe(name, dict(map(opt.parse_setting, settings or ())))


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a missing library into the line that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith(("keras", "tensorflow")):
            extra = "train"  # whatever the command
        raise CellsegError(
            f"This command needs the {extra} extra. Received: no module {error.name!r}.",
            hint=f"pip install 'cellseg[{extra}]'",
        ) from error


def prose(command: Callable[..., Any]) -> str:
    """Return a command's docstring with the lines of each paragraph joined, for any terminal.

    Examples, which are indented below their heading, keep their lines.
    """
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(
        text if "\n  " in text or "\n--" in text else " ".join(text.splitlines())
        for text in paragraphs
    )


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Give what shows on stderr how far a long piece of work is: what, done, of how many."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from cellseg import console

    stderr = console.stderr()
    silent = not stderr.is_terminal  # of a bar that is gone a log file would keep an empty line
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=stderr, transient=True, disable=silent
    ) as bar:
        shown = bar.add_task("", total=None)
        yield lambda text, done, of: bar.update(shown, description=text, completed=done, total=of)


@contextmanager
def counted(title: str) -> Iterator[Callable[[int, int], None]]:
    """Give what shows how far a piece of work is: done, of how many."""
    with progress_bar() as progress:
        yield functools.partial(progress, title)
