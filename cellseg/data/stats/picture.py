"""One picture of a data set: six charts, drawn with OpenCV so that nothing else is needed."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.data.stats.contents import Stats

__all__ = ["draw_stats"]

_PANEL_HW = (260, 420)
_LEFT, _TOP, _RIGHT, _BOTTOM = 50, 50, 20, 34
_LEGEND_Y, _LEGEND_GAP_PX = 40, 12
_INK, _PALE = (50, 50, 50), (225, 225, 225)
_BARS = ((90, 120, 200), (200, 90, 80), (90, 160, 90))
_BINS = 30
_LINE_PX, _LINE_LENGTH = 20, 150

Colour = tuple[int, int, int]


def draw_stats(
    stats: Stats, picture: Path, field_px: int | None = None, notes: Sequence[str] = ()
) -> None:
    """Draw sizes, objects, classes, intensity and stain of a data set.

    Parameters
    ----------
    stats : Stats
        What was measured.
    picture : Path
        PNG to write.
    field_px : int, optional
        How far a model sees to each side; marked among the objects' sizes.
    notes : sequence of str
        What may go wrong, written below.
    """
    import cv2

    rows = stats.images

    def column(name: str) -> NDArray[np.float64]:
        return np.array([getattr(row, name) for row in rows], np.float64)

    blue, red, green = _BARS
    panels = [
        _histogram("longest side of an image, px", [
            ("", np.maximum(column("width_px"), column("height_px")), blue)]),
        _histogram("objects in an image", [("", column("objects"), blue)]),
        _histogram("diameter of an object, px", [("", stats.diameters_px, blue)], mark=field_px),
        _bars("part of all pixels", dict(stats.class_pixels)),
        _histogram("mean intensity of an image", [
            ("red", column("mean_red"), red), ("green", column("mean_green"), green),
            ("blue", column("mean_blue"), blue)]),
        _histogram("mean optical density of an image", [
            ("haematoxylin", column("haematoxylin_od"), blue), ("eosin", column("eosin_od"), red)]),
    ]  # fmt: skip
    sheet = np.vstack([np.hstack(panels[:3]), np.hstack(panels[3:]), *_notes(notes)])
    done, data = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    assert done
    picture.write_bytes(data.tobytes())


def _histogram(
    title: str,
    series: Sequence[tuple[str, NDArray[np.float64], Colour]],
    mark: float | None = None,
) -> NDArray[np.uint8]:
    import cv2

    panel = _panel(title)
    values = np.concatenate([found for _, found, _ in series])
    if not values.size:
        return panel
    low, high = float(values.min()), float(values.max())
    high = max(high, low + 1e-6, mark or low)
    edges = np.linspace(low, high, _BINS + 1)
    counts = [np.histogram(found, edges)[0] for _, found, _ in series]
    tallest = max(int(count.max()) for count in counts)
    width = (_PANEL_HW[1] - _LEFT - _RIGHT) / _BINS
    for (_, _, colour), count in zip(series, counts, strict=True):
        layer = panel.copy()
        for index, number in enumerate(count.tolist()):
            left, right = (int(_LEFT + width * k) for k in (index, index + 1))
            top = _height(number / tallest)
            cv2.rectangle(layer, (left, top), (right - 1, _PANEL_HW[0] - _BOTTOM), colour, -1)
        share = 1.0 if len(series) == 1 else 0.6
        panel = cv2.addWeighted(layer, share, panel, 1 - share, 0)
    _legend(panel, [(name, colour) for name, _, colour in series if name])
    _axis(panel, low, high, tallest)
    if mark is not None:
        x = int(_LEFT + (mark - low) / (high - low) * (_PANEL_HW[1] - _LEFT - _RIGHT))
        cv2.line(panel, (x, _TOP), (x, _PANEL_HW[0] - _BOTTOM), (200, 40, 40), 2)
        _write(panel, f"model sees {mark:g}", (max(_LEFT, x - 110), _LEGEND_Y), (200, 40, 40))
    return panel


def _legend(panel: NDArray[np.uint8], names: Sequence[tuple[str, Colour]]) -> None:
    """Write names in their colours above the axes, right-aligned, where no bar reaches."""
    import cv2

    right = _PANEL_HW[1] - _RIGHT
    for name, colour in reversed(names):
        right -= cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0]
        _write(panel, name, (right, _LEGEND_Y), colour)
        right -= _LEGEND_GAP_PX


def _bars(title: str, pixels: dict[str, int]) -> NDArray[np.uint8]:
    import cv2

    panel = _panel(title)
    total = max(1, sum(pixels.values()))
    step = (_PANEL_HW[0] - _TOP - 10) / max(1, len(pixels))
    for index, (name, count) in enumerate(pixels.items()):
        top = int(_TOP + step * index)
        right = int(130 + count / total * (_PANEL_HW[1] - 130 - 70))
        bottom = int(top + max(2, step * 0.6))
        cv2.rectangle(panel, (130, top), (max(131, right), bottom), _BARS[0], -1)
        _write(panel, name[:16], (6, (top + bottom) // 2 + 4), _INK)
        _write(panel, f"{count / total:.2%}", (right + 6, (top + bottom) // 2 + 4), _INK)
    return panel


def _notes(notes: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Sentences, wrapped to the sheet's width; nothing where there are none."""
    lines = [line for text in notes for line in textwrap.wrap(f"- {text}", _LINE_LENGTH)]
    if not lines:
        return []
    strip = np.full((_LINE_PX * (len(lines) + 1), 3 * _PANEL_HW[1], 3), 255, np.uint8)
    for place, line in enumerate(lines, start=1):
        _write(strip, line, (12, _LINE_PX * place), _INK, 0.45)
    return [strip]


def _panel(title: str) -> NDArray[np.uint8]:
    import cv2

    panel = np.full((*_PANEL_HW, 3), 255, np.uint8)
    cv2.rectangle(panel, (0, 0), (_PANEL_HW[1] - 1, _PANEL_HW[0] - 1), _PALE, 1)
    _write(panel, title, (12, 22), _INK, 0.5)
    return panel


def _axis(panel: NDArray[np.uint8], low: float, high: float, tallest: int) -> None:
    import cv2

    height, width = _PANEL_HW
    cv2.line(panel, (_LEFT, height - _BOTTOM), (width - _RIGHT, height - _BOTTOM), _INK, 1)
    _write(panel, f"{low:.4g}", (_LEFT, height - 14), _INK)
    _write(panel, f"{high:.4g}", (width - _RIGHT - 46, height - 14), _INK)
    _write(panel, str(tallest), (6, _TOP + 8), _INK)


def _height(share: float) -> int:
    room = _PANEL_HW[0] - _BOTTOM - _TOP
    return int(_PANEL_HW[0] - _BOTTOM - share * room)


def _write(
    panel: NDArray[np.uint8], text: str, place: tuple[int, int], colour: Colour, size: float = 0.4
) -> None:
    import cv2

    cv2.putText(panel, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
