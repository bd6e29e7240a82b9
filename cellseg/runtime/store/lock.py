"""One run a folder: a file lock that the system drops when its process ends, however it ends."""

from __future__ import annotations

import errno
import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from cellseg.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["FolderLock", "UnwritableFolderError"]

_LOG = logging.getLogger(__name__)

LOCK_NAME = ".cellseg-run.lock"
_LOCKED_BYTE = 1 << 20  # Windows locks bytes and forbids to read them; the text lies before it


class UnwritableFolderError(StoreError):
    """A result folder is there, but nothing can be written to it."""


class FolderLock:
    """Holds a folder for this run; a context manager.

    Parameters
    ----------
    folder : Path
        Existing folder.

    Raises
    ------
    UnwritableFolderError
        On entering, if the folder cannot be written.
    StoreError
        On entering, if another run holds the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / LOCK_NAME
        self._file = -1

    def __enter__(self) -> FolderLock:
        # A run that ends removes its file. One that opened it just before would then hold a lock
        # that nobody sees; so the file that was locked must still be the one in the folder.
        while not self._is_current():
            self._release()
            self._file = self._open()
            if not self._is_free():
                self._refuse()
        os.ftruncate(self._file, 0)
        os.write(self._file, str(os.getpid()).encode())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if sys.platform == "win32":
            self._release()  # an open file cannot be removed there
        with suppress(OSError):
            self._path.unlink()
        self._release()

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UnwritableFolderError(
                f"Results must be written to a folder that can be written. Received: "
                f"folder={self._folder} ({error.strerror}).",
                hint="Choose another folder with -o.",
            ) from error

    def _is_free(self) -> bool:
        """Lock the file if no other run did; where there are no locks, nobody can tell."""
        try:
            return _try_lock(self._file)
        except OSError as error:
            text = "%s: its file system has no locks (%s); start no second run there"
            _LOG.warning(text, self._folder, error.strerror)
            return True

    def _is_current(self) -> bool:
        if self._file < 0:
            return False
        try:
            return os.path.samestat(os.fstat(self._file), self._path.stat())
        except OSError:
            return False

    def _refuse(self) -> None:
        holder = os.read(self._file, 32).decode(errors="replace")
        self._release()
        raise StoreError(
            "Only one run at a time may write to a folder. "
            f"Received: folder={self._folder}, in use by process {holder or 'unknown'}.",
            hint="Wait until it is done, or choose another folder with -o.",
        )

    def _release(self) -> None:
        if self._file >= 0:
            os.close(self._file)  # drops the lock
            self._file = -1


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: int) -> bool:
        os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(file, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    # Some network file systems, and some mounted without locks, as clusters often are.
    _WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}

    def _try_lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                raise
            return False
        return True
