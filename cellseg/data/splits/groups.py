"""What belongs together, said by the user: a pattern of names, folders, or a table of groups."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from cellseg.data.form.sample import SPLITS
from cellseg.data.form.writer import MANIFEST
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["groups_by_folder", "groups_by_pattern", "read_groups"]

_SHOWN = 5


def groups_by_pattern(pattern: str, stems: Sequence[str]) -> list[str]:
    """Return what a regular expression finds in each name: its first group, or all it matches.

    Raises
    ------
    DataError
        If it is none, or does not match a name.
    """
    return [_match(pattern, stem) for stem in stems]


def groups_by_folder(root: Path, stems: Sequence[str]) -> list[str]:
    """Return the folder that each image came from, as the data set's manifest.csv says.

    Raises
    ------
    DataError
        If there is no manifest.csv.
    """
    origins = _origins(root)
    return [origins.get(stem, "").rpartition("/")[0] for stem in stems]


def read_groups(path: Path, stems: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Read a table of groups, CSV with ``stem``, ``group`` and perhaps ``split``.

    Parameters
    ----------
    path : Path
        The table; any case of headings, commas, semicolons or tabs.
    stems : sequence of str
        Names of all images; each must be in it.

    Returns
    -------
    dict of stem to (group, split)
        Without a split, an empty string.

    Raises
    ------
    DataError
        If it cannot be read, names an image twice or not at all, or a split that there is not.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = _rows(file.read())
        found: dict[str, tuple[str, str]] = {}
        for row in rows:
            name = row["stem"].strip()
            name = name if name in stems else name.rpartition(".")[0] or name
            entry = (row["group"].strip(), (row.get("split") or "").strip().lower())
            if found.setdefault(name, entry) != entry:
                raise DataError(
                    f"A group lies in one split, an image in one group. Received: {path} with "
                    f"{name!r} as {found[name]} and {entry}."
                )
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"A table of groups must be readable. Received: {path} ({error})."
        ) from error
    except KeyError as error:
        raise DataError(
            f"A table of groups has columns stem and group. Received: {path} without {error}.",
            hint="group is the patient, slide or field that an image comes from.",
        ) from error
    missing = sorted(set(stems) - found.keys())
    wrong = sorted({split for _, split in found.values()} - {"", *SPLITS})
    if missing or wrong:
        said = f"no row for {', '.join(missing[:_SHOWN])}" if missing else f"split {wrong[0]!r}"
        raise DataError(f"A table of groups names every image once. Received: {path}, {said}.")
    return found


def _match(pattern: str, stem: str) -> str:
    try:
        found = re.search(pattern, stem)
    except re.error as error:
        raise DataError(
            f"A pattern is a regular expression. Received: {pattern!r} ({error})."
        ) from error
    if found is None:
        raise DataError(
            f"The pattern of a group matches every name. Received: {pattern!r}, not in {stem!r}.",
            hint="e.g. '^([^_]+)_' for what comes before the first underscore.",
        )
    return found.group(1) if found.groups() else found.group(0)


def _origins(root: Path) -> dict[str, str]:
    path = root / MANIFEST
    if not path.is_file():
        raise DataError(f"Groups by folder need manifest.csv. Received: none in {root}.")
    with path.open(newline="", encoding="utf-8") as file:
        return {row["stem"]: row["origin"] for row in csv.DictReader(file)}


def _rows(text: str) -> list[dict[str, str]]:
    """Rows of a table as spreadsheets write it: any case of headings, commas or semicolons."""
    head = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=head.count))
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    return [{key: value or "" for key, value in row.items() if key} for row in reader]
