"""A picture of what `verify` saw: image, tiled result, and how far each other way is from it.

One row a window. Differences are drawn on a logarithmic scale from 1e-8 (dark) to 1 (bright); a
pixel that is equal to the last bit is grey, so that an empty map is seen to be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from cellseg.errors import StoreError
from cellseg.runtime.writers.atomic import can_be_made, replacing

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.jobs.job import Job

__all__ = ["Sheet", "check_place", "heat_of"]

PANEL_PX = 256
_MOST_ROWS = 8
_GAP_PX, _TEXT_PX = 8, 22
_DECADES = 8
_EQUAL_BGR = (70, 70, 70)
_INK_BGR, _ALARM_BGR = (225, 225, 225), (90, 90, 255)
_GROUND = 24


class Sheet:
    """Gathers panels as windows are compared; keeps the eight windows that differ most.

    Parameters
    ----------
    job : Job
        Whose slide the windows lie in.
    max_difference : float
        Differences above it are written in red.
    """

    def __init__(self, job: Job, max_difference: float) -> None:
        self._job, self._limit = job, max_difference
        self._rows: list[tuple[float, int, NDArray[np.uint8]]] = []
        self._seen = 0

    def see(
        self,
        yx: tuple[int, int],
        classes: NDArray[np.uint8],
        differences: dict[str, NDArray[np.float32]],
    ) -> None:
        """Add a window.

        Parameters
        ----------
        yx : (int, int)
            Where it lies, working-level pixels.
        classes : uint8, shape (h, w)
            The tiled result.
        differences : mapping of str to float32, shape (h, w)
            Largest difference of a channel at each pixel, by way.
        """
        image = np.ascontiguousarray(self._job.view.read(*yx, *classes.shape)[..., ::-1])
        panels = [
            _captioned(_fit(image), f"image  y {yx[0]}  x {yx[1]}"),
            _captioned(_fit(self._painted(image, classes)), "tiled result"),
        ]
        for way, difference in differences.items():
            largest = float(difference.max())
            ink = _ALARM_BGR if largest > self._limit else _INK_BGR
            panels.append(
                _captioned(heat_of(_largest_of_blocks(difference)), _said(way, largest), ink)
            )
        worst = max((float(each.max()) for each in differences.values()), default=0.0)
        self._rows.append((-worst, self._seen, np.concatenate(panels, axis=1)))
        self._rows = sorted(self._rows, key=lambda row: row[:2])[:_MOST_ROWS]
        self._seen += 1

    def write(self, path: Path) -> None:
        """Write the picture, PNG, whatever the name ends with.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [row for *_, row in sorted(self._rows, key=lambda row: row[1])]
        sheet = np.concatenate([*rows, _legend(rows[0].shape[1])], axis=0)
        with replacing(path) as partial:
            partial.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())

    def _painted(self, image: NDArray[np.uint8], classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from cellseg.runtime.kernels.palette import paint

        painted = image.copy()
        palette = np.ascontiguousarray(self._job.palette[:, ::-1])
        paint(painted, classes, classes, palette, 64, 224, 2)
        return painted


def check_place(path: Path) -> None:
    """Refuse a place that no picture can be written to: before the windows, not after them.

    Raises
    ------
    StoreError
        If it is a folder, or in one that cannot be written.
    """
    if path.is_dir() or not can_be_made(path.parent):
        raise StoreError(
            f"A picture is a file in a folder that can be written. Received: {path}.",
            hint="Name another place, such as seams.png.",
        )


def heat_of(difference: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw differences on a logarithmic scale; what is exactly equal is grey.

    Parameters
    ----------
    difference : float32, shape (h, w)
        At least 0.

    Returns
    -------
    uint8, shape (h, w, 3)
        BGR.
    """
    level = 1 + np.log10(np.clip(difference, 10.0**-_DECADES, 1)) / _DECADES
    steps = np.rint(64 + level * 191).astype(np.uint8)  # never as dark as the ground
    heat = np.asarray(cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO), np.uint8)
    heat[difference == 0] = _EQUAL_BGR
    return heat


def _said(way: str, largest: float) -> str:
    return f"{way}: equal" if largest == 0 else f"{way}: {largest:.1e}"


def _fit(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring a window into a panel: smaller by areas, larger by whole pixels, at the top left."""
    height, width = picture.shape[:2]
    scale = PANEL_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    panel = np.full((PANEL_PX, PANEL_PX, 3), _GROUND, np.uint8)
    panel[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=how)
    return panel


def _largest_of_blocks(difference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring differences to a panel's size; one pixel that differs must not vanish in a mean."""
    step = -(-max(difference.shape) // PANEL_PX)
    pad = [(0, -side % step) for side in difference.shape]
    padded = np.pad(difference, pad)
    rows, columns = padded.shape[0] // step, padded.shape[1] // step
    blocks = padded.reshape(rows, step, columns, step).max(axis=(1, 3))
    grown = max(1, PANEL_PX // max(rows, columns))
    blocks = blocks.repeat(grown, axis=0).repeat(grown, axis=1)
    panel: NDArray[np.float32] = np.zeros((PANEL_PX, PANEL_PX), np.float32)
    panel[: blocks.shape[0], : blocks.shape[1]] = blocks
    return panel


def _captioned(
    panel: NDArray[np.uint8], text: str, ink: tuple[int, int, int] = _INK_BGR
) -> NDArray[np.uint8]:
    height, width = PANEL_PX + _TEXT_PX + _GAP_PX, PANEL_PX + _GAP_PX
    whole = np.full((height, width, 3), _GROUND, np.uint8)
    whole[_TEXT_PX : _TEXT_PX + PANEL_PX, :PANEL_PX] = panel
    return _written(whole, text, (2, 15), ink)


def _legend(width: int) -> NDArray[np.uint8]:
    """Draw the scale: one box a decade, and the grey of what is equal."""
    strip: NDArray[np.uint8] = np.full((2 * _TEXT_PX, width, 3), _GROUND, np.uint8)
    values = [0.0, *(10.0**-power for power in range(_DECADES, -1, -1))]
    for number, value in enumerate(values):
        left = number * 80
        strip[6:20, left : left + 24] = heat_of(np.full((1, 1), value, np.float32))
        strip = _written(strip, "equal" if value == 0 else f"{value:.0e}", (left + 28, 18))
    return strip


def _written(
    picture: NDArray[np.uint8],
    text: str,
    xy: tuple[int, int],
    ink: tuple[int, int, int] = _INK_BGR,
) -> NDArray[np.uint8]:
    cv2.putText(picture, text, xy, cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA)
    return picture
