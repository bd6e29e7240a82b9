"""A gallery of cells: crops of the slide at one scale, from the smallest of a class to its largest.

Which cells are shown depends on the table alone: ranks of size at even distances, so that what is
typical is seen, and at both ends what may be debris or clumps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellseg.runtime.pictures.marks import draw_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Gallery", "WindowReader", "draw_gallery", "pick_cells"]

THUMB_PX = 96
COLUMNS = 8
_MOST_SHOWN = 24
_GAP_PX = 4
_HEAD_PX = 28
_FIELD_PX = (24, 256)
_ROOM = 1.5  # side of the field by that of a large cell
_INK, _PAPER = (30, 30, 30), 255


class WindowReader(Protocol):
    """Reads a window that may reach beyond the image."""

    def __call__(self, y0: int, x0: int, h: int, w: int, /) -> NDArray[Any]:
        """Return it: RGB uint8 (h, w, 3), or labels (h, w)."""
        ...


@dataclass(frozen=True)
class Gallery:
    """Where crops come from.

    Cells are columns of the table: ``id``, ``class`` (names), ``x_px``, ``y_px``, ``x0_px``,
    ``y0_px``, ``x1_px``, ``y1_px``, ``area_px``, ``touches_border``.
    """

    cells: Mapping[str, NDArray[Any]]
    """The table."""
    l0_per_wl: float
    """Level-0 pixels per pixel of the working level."""
    read_rgb: WindowReader
    """Reads the slide at the working level."""
    read_labels: WindowReader | None
    """Reads the numbers of cells; None: crops have no outline."""

    @property
    def field_px(self) -> int:
        """Side of what each crop shows, pixels of the working level; one for all."""
        boxes = np.maximum(
            self.cells["x1_px"] - self.cells["x0_px"], self.cells["y1_px"] - self.cells["y0_px"]
        )
        large = float(np.quantile(boxes, 0.95)) / self.l0_per_wl if len(boxes) else 0.0
        return int(np.clip(round(_ROOM * large), *_FIELD_PX))

    def sheet(self, name: str, colour: Sequence[int]) -> NDArray[np.uint8] | None:
        """Draw the cells of a class in rows, the smallest first.

        Parameters
        ----------
        name : str
            The class.
        colour : sequence of int
            RGB of its outlines.

        Returns
        -------
        uint8, shape (h, w, 3), or None
            None if there are none.
        """
        rows = pick_cells(self.cells, name)
        if not len(rows):
            return None
        crops = [self._crop(row, colour) for row in rows.tolist()]
        return _in_rows(crops)

    def _crop(self, row: int, colour: Sequence[int]) -> NDArray[np.uint8]:
        import cv2

        side = self.field_px
        y0, x0 = (
            round(float(self.cells[axis][row]) / self.l0_per_wl - side / 2)
            for axis in ("y_px", "x_px")
        )
        rgb = np.ascontiguousarray(self.read_rgb(y0, x0, side, side))
        crop = cv2.resize(rgb, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_CUBIC)
        if self.read_labels is not None:
            inside = self.read_labels(y0, x0, side, side) == self.cells["id"][row]
            mask = cv2.resize(
                inside.astype(np.float32), (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_LINEAR
            )
            found, _ = cv2.findContours(
                (mask >= 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            cv2.drawContours(crop, found, -1, tuple(map(int, colour)), 1, cv2.LINE_AA)
        return np.asarray(crop, np.uint8)


def pick_cells(cells: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.int64]:
    """Return rows of a class at even ranks of size, the smallest first.

    Cells cut by the border of the slide are left out while there are others.
    """
    rows = np.flatnonzero(cells["class"] == name)
    whole = rows[~np.asarray(cells["touches_border"])[rows].astype(bool)]
    rows = whole if len(whole) else rows
    by_size = rows[np.lexsort((cells["id"][rows], cells["area_px"][rows]))]
    count = min(_MOST_SHOWN, len(rows))
    spread = ((np.arange(count) + 0.5) * len(rows) / max(1, count)).astype(np.int64)
    return np.asarray(by_size[spread], np.int64)


def draw_gallery(gallery: Gallery, colours: Mapping[str, Sequence[int]]) -> NDArray[np.uint8]:
    """Draw all classes below one another, each under its name and count; RGB.

    Parameters
    ----------
    gallery : Gallery
    colours : mapping of class name to RGB
        In the order in which they are drawn.
    """
    width = COLUMNS * (THUMB_PX + _GAP_PX) + _GAP_PX
    parts = []
    for name, colour in colours.items():
        sheet = gallery.sheet(name, colour)
        if sheet is None:
            continue
        count = int(np.count_nonzero(gallery.cells["class"] == name))
        head = np.full((_HEAD_PX, width, 3), _PAPER, np.uint8)
        draw_text(head, f"{name}: {count}, by size", (_GAP_PX, _HEAD_PX - 9), _INK)
        parts += [head, _padded(sheet, width)]
    if not parts:
        empty = np.full((_HEAD_PX, width, 3), _PAPER, np.uint8)
        draw_text(empty, "no cells", (_GAP_PX, _HEAD_PX - 9), _INK)
        parts = [empty]
    return np.vstack(parts)


def _in_rows(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    step = THUMB_PX + _GAP_PX
    lines, across = -(-len(crops) // COLUMNS), min(COLUMNS, len(crops))
    sheet = np.full((lines * step + _GAP_PX, across * step + _GAP_PX, 3), _PAPER, np.uint8)
    for index, crop in enumerate(crops):
        y, x = (place * step + _GAP_PX for place in divmod(index, COLUMNS))
        sheet[y : y + THUMB_PX, x : x + THUMB_PX] = crop
    return sheet


def _padded(sheet: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    return np.pad(sheet, ((0, 0), (0, width - sheet.shape[1]), (0, 0)), constant_values=_PAPER)
