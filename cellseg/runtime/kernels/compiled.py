"""How kernels are compiled: on their first call, and then kept."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import numba

from cellseg.runtime.machine.cache_folder import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["kernel"]

_LOG = logging.getLogger(__name__)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called; it runs without Python's lock.

    What was compiled is kept: in ``NUMBA_CACHE_DIR``, beside the module, or in the user's cache
    folder. Where numba may write to none of them, as in a container that is read-only, it is kept
    in ``CELLSEG_CACHE``, and if that does not help either, compiled anew in each run.
    """
    try:
        found = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # "no locator available"
        found = numba.njit(nogil=True, cache=_finds_a_folder())(function)
    found._cache.save_overload = _saved_if_possible(found._cache.save_overload)
    return found


def _saved_if_possible(save: Callable[..., None]) -> Callable[..., None]:
    """Let a full disk, or quota, end no run: what is kept only saves time."""

    def saved(*arguments: Any) -> None:
        try:
            save(*arguments)
        except OSError as error:
            _tell_once(
                f"compiled kernels cannot be kept ({error.strerror}): each run compiles anew"
            )

    return saved


@cache
def _tell_once(text: str) -> None:
    _LOG.warning(text)


@cache
def _finds_a_folder() -> bool:
    """Give numba the one folder of ours; return whether it may write there."""
    try:
        folder = cache_folder() / "numba"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".written").touch()
    except OSError:
        _LOG.warning(
            "kernels are compiled anew in each run, half a minute: no folder to keep them in can "
            "be written. Set NUMBA_CACHE_DIR to one that can."
        )
        return False
    numba.config.CACHE_DIR = str(folder)
    return True
