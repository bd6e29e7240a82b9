"""Results of an unfinished run: one SQLite file that survives a kill.

The file is journal and data in one: a tile is done when its row is there. Rows hold compressed
class maps (and, for small images whose cells are to be told apart, the network's channels). Tiles
without tissue have no row. The probability of foreground is kept in a table of its own, where an
output needs it: a tile of a run that did without is then not done yet.

SQLite in WAL mode keeps every committed row through kill -9, and through loss of power where the
disk honours a flush. The ``identity`` of a run (slide, model, engine, plan, decision) is kept with
it; a run with another one is refused, so that no result mixes two.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from cellseg.errors import StoreError
from cellseg.runtime.machine.file_limit import growth_refused, largest_file_bytes
from cellseg.runtime.slides.source_tiles import DamagedTile
from cellseg.runtime.store.identity import check_same_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "STORE_NAME",
    "PackedRegion",
    "Plane",
    "ResultStore",
    "discard_store",
    "stored_identity",
    "stored_owed",
]

STORE_NAME = ".cellseg-run.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS classes (tile INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS probability (tile INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS interior (tile INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS region_cells (
    region INTEGER PRIMARY KEY, runs BLOB NOT NULL, cells BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS measured (
    region INTEGER PRIMARY KEY, records BLOB NOT NULL, outlines BLOB NOT NULL, links BLOB
);
CREATE TABLE IF NOT EXISTS damaged (place TEXT PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    session INTEGER PRIMARY KEY, wall_s REAL NOT NULL, stages_s TEXT NOT NULL
);
"""
_SETTINGS = """
PRAGMA page_size = 16384;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
"""

Identity = dict[str, Any]
Plane: TypeAlias = Literal["classes", "probability", "interior"]
"""What may be kept of a tile, uint8 (h, w) each."""

_CLASSES: tuple[Plane, ...] = ("classes",)


@dataclass(frozen=True)
class PackedRegion:
    """What the store keeps of a region's cells."""

    runs: bytes
    """Runs of pixels of every cell that reaches into the core, cell by cell."""

    cells: bytes
    """The same cells: how many runs, and whether it is the region's own."""

    records: bytes
    """Measurements of its own cells."""

    outlines: bytes
    """Outlines of the same."""

    links: bytes | None = None
    """How pieces of cells go on in other regions; None where there are no pieces."""


class ResultStore:
    """Tiles of one unfinished run.

    Parameters
    ----------
    folder : Path
        Existing folder, held by a `FolderLock`.

    Raises
    ------
    StoreError
        If the file is damaged or cannot be written.

    Notes
    -----
    May be used from several threads; they take turns.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / STORE_NAME
        self._session: int | None = None
        self._turn = RLock()
        with self._explained():
            self._db = _opened(self._path)

    @property
    def identity(self) -> Identity | None:
        """What run the tiles belong to; None in a new store."""
        with self._explained():
            row = self._db.execute("SELECT value FROM facts WHERE name = 'identity'").fetchone()
        return None if row is None else dict(json.loads(row[0]))

    @property
    def owed(self) -> tuple[str, ...]:
        """Outputs that the folder had before this run began to make more."""
        with self._explained():
            row = self._db.execute("SELECT value FROM facts WHERE name = 'owed'").fetchone()
        return () if row is None else tuple(json.loads(row[0]))

    def begin(self, identity: Mapping[str, Any], owed: Iterable[str] = ()) -> None:
        """Start or go on with a run.

        Parameters
        ----------
        identity : mapping
            JSON values; everything that the result depends on.
        owed : iterable of str
            Names of the outputs that a finished run in this folder had: they are to be there again
            at the end, whatever else is asked for and however often this run is stopped.

        Raises
        ------
        StoreError
            If the store holds tiles of another run.
        """
        found = self.identity
        if found is not None:
            check_same_run(found, identity, self._path.parent, "an unfinished run")
        with self._explained():
            text = json.dumps(dict(identity))
            self._db.execute("INSERT OR REPLACE INTO facts VALUES ('identity', ?)", (text,))
            if names := sorted({*self.owed, *owed}):
                row = (json.dumps(names),)
                self._db.execute("INSERT OR REPLACE INTO facts VALUES ('owed', ?)", row)
            cursor = self._db.execute("INSERT INTO sessions VALUES (NULL, 0, '{}')")
        self._session = cursor.lastrowid

    def done(self, planes: Sequence[Plane] = _CLASSES) -> NDArray[np.int64]:
        """Return the indices of the tiles of which all of some planes are there, ascending."""
        first, *others = planes
        joined = first + "".join(f" JOIN {name} USING (tile)" for name in others)
        with self._explained():
            rows = self._db.execute(f"SELECT tile FROM {joined} ORDER BY tile")
            return np.fromiter((row[0] for row in rows), np.int64)

    def put(self, tile: int, planes: Mapping[Plane, bytes]) -> None:
        """Add a tile's packed planes; they are kept from the next `commit` on."""
        with self._explained():
            self._begin()
            for name, data in planes.items():
                self._db.execute(f"INSERT OR REPLACE INTO {name} VALUES (?, ?)", (tile, data))

    def plane(self, name: Plane, tile: int) -> bytes | None:
        """Return a packed plane of a tile, or None."""
        with self._explained():
            query = f"SELECT data FROM {name} WHERE tile = ?"
            row = self._db.execute(query, (tile,)).fetchone()
        return None if row is None else row[0]

    def begin_regions(self, made_with: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the regions whose cells are there, ascending; forget those made otherwise.

        Parameters
        ----------
        made_with : mapping
            JSON values; what measurements depend on besides the run's identity.
        """
        text = json.dumps(dict(made_with))
        with self._explained():
            row = self._db.execute("SELECT value FROM facts WHERE name = 'regions'").fetchone()
            if row is None or row[0] != text:
                self._begin()
                self._db.execute("DELETE FROM measured")
                self._db.execute("INSERT OR REPLACE INTO facts VALUES ('regions', ?)", (text,))
            query = "SELECT region FROM region_cells JOIN measured USING (region) ORDER BY region"
            return np.fromiter((row[0] for row in self._db.execute(query)), np.int64)

    def put_region(self, region: int, found: PackedRegion) -> None:
        """Add a region's cells; they are kept from the next `commit` on."""
        with self._explained():
            self._begin()
            row = (region, found.runs, found.cells)
            self._db.execute("INSERT OR REPLACE INTO region_cells VALUES (?, ?, ?)", row)
            measured = (region, found.records, found.outlines, found.links)
            self._db.execute("INSERT OR REPLACE INTO measured VALUES (?, ?, ?, ?)", measured)

    def region(self, region: int) -> tuple[bytes, bytes]:
        """Return the packed runs and cells of a region that is there."""
        with self._explained():
            query = "SELECT runs, cells FROM region_cells WHERE region = ?"
            row = self._db.execute(query, (region,)).fetchone()
        return row[0], row[1]

    def region_records(self) -> Iterator[bytes]:
        """Yield the packed records of all regions, in order."""
        with self._explained():
            rows = self._db.execute("SELECT region FROM measured ORDER BY region").fetchall()
        for (region,) in rows:
            yield self.measured(region)[0]

    def region_links(self) -> list[tuple[int, bytes]]:
        """Return the regions that hold pieces of cells, and their packed links, in order."""
        with self._explained():
            query = "SELECT region, links FROM measured WHERE links IS NOT NULL ORDER BY region"
            return self._db.execute(query).fetchall()

    def measured(self, region: int) -> tuple[bytes, bytes]:
        """Return the packed records and outlines of a region that is there."""
        with self._explained():
            query = "SELECT records, outlines FROM measured WHERE region = ?"
            row = self._db.execute(query, (region,)).fetchone()
        return row[0], row[1]

    def put_damaged(self, tiles: Iterable[DamagedTile]) -> None:
        """Note stored tiles that were taken for background; kept from the next `commit` on."""
        rows = [(f"{t.level}/{t.row}/{t.column}", json.dumps(t.as_dict())) for t in tiles]
        with self._explained():
            self._begin()
            self._db.executemany("INSERT OR REPLACE INTO damaged VALUES (?, ?)", rows)

    def damaged(self) -> list[DamagedTile]:
        """Return the stored tiles that were taken for background, in order."""
        with self._explained():
            rows = self._db.execute("SELECT facts FROM damaged").fetchall()
        return sorted(DamagedTile(**json.loads(row[0])) for row in rows)

    def commit(self, wall_s: float, stages_s: Mapping[str, float | None]) -> None:
        """Make what was put last, with the times of this session so far."""
        with self._explained():
            self._db.execute(
                "UPDATE sessions SET wall_s = ?, stages_s = ? WHERE session = ?",
                (wall_s, json.dumps(dict(stages_s)), self._session),
            )
            if self._db.in_transaction:
                self._db.execute("COMMIT")

    def earlier_sessions(self) -> tuple[int, float, dict[str, float]]:
        """Return number, wall seconds and busy seconds by stage of the sessions before this."""
        with self._explained():
            rows = self._db.execute(
                "SELECT wall_s, stages_s FROM sessions WHERE session IS NOT ?", (self._session,)
            ).fetchall()
        stages: dict[str, float] = {}
        for _, text in rows:
            for stage, seconds in json.loads(text).items():
                if seconds is not None:
                    stages[stage] = stages.get(stage, 0.0) + seconds
        return len(rows), sum(row[0] for row in rows), stages

    def close(self) -> None:
        """Close the file; it stays for the next session. What was put is kept if it can be."""
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        with suppress(sqlite3.Error):
            self._db.close()

    def remove(self) -> None:
        """Close the file and delete it: the run is finished."""
        self.close()
        discard_store(self._path.parent)

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with self._turn:
                yield
        except sqlite3.Error as error:
            raise _store_error(error, self._path) from error


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _connected(str(path))
    except sqlite3.OperationalError as error:
        if sys.platform == "win32" or "disk I/O" not in str(error):
            raise
    # A file system without locks says the same as a broken one. The folder is ours: `FolderLock`.
    return _connected(f"{path.absolute().as_uri()}?vfs=unix-none", uri=True)


def _connected(name: str, *, uri: bool = False) -> sqlite3.Connection:
    # Transactions are ours: BEGIN before the first row, COMMIT in `commit`.
    found = sqlite3.connect(
        name, check_same_thread=False, isolation_level=None, timeout=1.0, uri=uri
    )
    try:
        found.executescript(f"{_SETTINGS} BEGIN; {_SCHEMA} COMMIT;")
    except sqlite3.Error:
        found.close()
        raise
    return found


def stored_identity(folder: Path) -> Identity | None:
    """Return which unfinished run a folder holds; None if there is none."""
    if not (folder / STORE_NAME).exists():
        return None
    with closing(ResultStore(folder)) as store:
        return store.identity


def stored_owed(folder: Path) -> tuple[str, ...]:
    """Return the outputs that the unfinished run in a folder owes; see `ResultStore.begin`."""
    if not (folder / STORE_NAME).exists():
        return ()
    with closing(ResultStore(folder)) as store:
        return store.owed


def discard_store(folder: Path) -> None:
    """Delete the file of an unfinished run, whatever state it is in."""
    for suffix in ("-wal", "-shm", ""):
        (folder / f"{STORE_NAME}{suffix}").unlink(missing_ok=True)


def _store_error(error: sqlite3.Error, path: Path) -> StoreError:
    text = str(error)
    if "full" in text:
        return StoreError(
            f"The disk is full. Received: {path.parent} ({text}).",
            hint="Free some space and give the same command again: finished tiles are kept.",
        )
    if "locked" in text:
        return StoreError(
            f"Only one run at a time may write to a folder. Received: {path} is locked.",
            hint="Wait until the other run is done, or choose another folder with -o.",
        )
    if "disk I/O" in text and largest_file_bytes() is not None:  # SQLite has no word for it
        return growth_refused(path, text)
    if isinstance(error, sqlite3.OperationalError):
        return StoreError(
            f"The folder must be writable. Received: {path} ({text}).",
            hint="Check the disk and its permissions, then give the same command again.",
        )
    return StoreError(
        f"The file of an unfinished run is damaged. Received: {path} ({text}).",
        hint="Start over with --restart.",
    )
