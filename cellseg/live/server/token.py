"""The word that opens the page: made once a user, kept in a file that only the user reads."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress

from cellseg.errors import CellsegError
from cellseg.runtime.machine.cache_folder import cache_folder

__all__ = ["TOKEN_VARIABLE", "load_token"]

TOKEN_VARIABLE = "CELLSEG_TOKEN"
_FORM = re.compile(r"[A-Za-z0-9_-]{16,128}")


def load_token() -> str:
    """Return the user's token: of ``CELLSEG_TOKEN``, of the file, or a new one that is kept.

    Returns
    -------
    str
        The same for every start, so that a page that is open finds its way back to a server that
        was started again.

    Raises
    ------
    CellsegError
        If ``CELLSEG_TOKEN`` is too short to be one.
    """
    given = os.environ.get(TOKEN_VARIABLE)
    if given is not None:
        return _checked(given)
    path = cache_folder() / "page-token"
    with suppress(OSError):
        found = path.read_text(encoding="ascii").strip()
        if _FORM.fullmatch(found):
            return found
    token = secrets.token_urlsafe(24)
    with suppress(OSError):  # a read-only home costs the memory only
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(token)
    return token


def _checked(token: str) -> str:
    if not _FORM.fullmatch(token):
        raise CellsegError(
            "A token has 16 to 128 letters, digits, - or _. "
            f"Received: {TOKEN_VARIABLE} of {len(token)} characters.",
            hint="python -c 'import secrets; print(secrets.token_urlsafe())' makes one.",
        )
    return token
