"""A slide of any size whose cells are known, and an engine that sees them as they are.

A square pattern of nuclei is repeated without seams. A pixel's grey value is the probability that
it is foreground, and interior: 0 outside, 128 at a nucleus' edge, 255 in its middle. The truth is
the pattern's labels and the repeat in which a nucleus has its centre.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import patch

import numpy as np

from cellseg.runtime.bundles.bundle import Bundle, Manifest, write_bundle
from cellseg.runtime.cells.regions import RegionGrid
from cellseg.runtime.slides.slide import Level

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SPACING_PX = 23
PATTERN_PX = 1311  # no multiple of a tile or a region: every place of a nucleus in one comes up
MPP = 0.5
CELLS: dict[str, Any] = {
    "kind": "interior-border",
    "interior_channel": 1,
    "seed_threshold": 0.75,
    "min_seed_px": 1,
    "min_area_px": 1,  # what the border of the slide leaves of a nucleus counts, too
}


@dataclass(frozen=True, eq=False)
class Pattern:
    """Nuclei on a torus."""

    grey: NDArray[np.uint8]
    """Probability of foreground, (P, P)."""

    labels: NDArray[np.uint32]
    """Number of the nucleus at each pixel, (P, P); 0 = none."""

    centres_yx: NDArray[np.float64]
    """Centre of each nucleus, (n, 2)."""

    @classmethod
    def make(cls, touching: bool, seed: int = 0) -> Pattern:
        """Paint ellipses on a jittered grid; separated ones leave a gap of a pixel at least."""
        rng = np.random.default_rng(seed)
        steps = np.arange(0, PATTERN_PX, SPACING_PX) + SPACING_PX / 2
        centres = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
        centres += rng.uniform(-3, 3, centres.shape)
        low, high = (7, 12.5) if touching else (4, 8)
        radii, turns = rng.uniform(low, high, centres.shape), rng.uniform(0, np.pi, len(centres))
        grey = np.zeros((PATTERN_PX, PATTERN_PX), np.uint8)
        labels = np.zeros(grey.shape, np.uint32)
        nearest = np.full(grey.shape, 1.0)
        offsets = np.arange(-14, 15)
        for index, (centre, radius, turn) in enumerate(zip(centres, radii, turns, strict=True)):
            y, x = (np.floor(centre)[:, None] + offsets).astype(int)
            dy, dx = np.meshgrid(y + 0.5 - centre[0], x + 0.5 - centre[1], indexing="ij")
            along = (dx * np.cos(turn) + dy * np.sin(turn)) / radius[0]
            across = (dy * np.cos(turn) - dx * np.sin(turn)) / radius[1]
            away = np.hypot(along, across)
            place = np.ix_(y % PATTERN_PX, x % PATTERN_PX)
            is_nearer = away < nearest[place]
            nearest[place] = np.where(is_nearer, away, nearest[place])
            labels[place] = np.where(is_nearer, index + 1, labels[place])
            shade = (255 - 127 * away).clip(0, 255).astype(np.uint8)
            grey[place] = np.where(is_nearer, shade, grey[place])
        return cls(grey, labels, centres)

    def save(self, path: Path) -> Path:
        """Keep the picture, so that the slide has a file and with it an identity."""
        np.save(path, self.grey)
        return path


class PatternSlide:
    """The pattern, repeated over a square slide; see `cellseg.runtime.slides.slide.Slide`."""

    kind: Literal["slide", "image"] = "image"
    dtype = np.dtype(np.uint8)
    mpp = (MPP, MPP)

    def __init__(self, pattern: Pattern, side_px: int, path: Path) -> None:
        self._pattern = pattern
        self.path = str(path)
        self.levels = (Level(side_px, side_px, 1.0),)
        self.properties: dict[str, str] = {}

    def read_region(self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[Any]:
        """Return a window as grey RGB."""
        assert level == 0
        grey = self._pattern.grey[self._place(l_yx, hw)]
        return np.repeat(grey[..., None], 3, axis=2)

    def truth(self, l_yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[np.int64]:
        """Return a window of what is true: one number a nucleus on the slide, 0 = background."""
        labels = self._pattern.labels[self._place(l_yx, hw)].astype(np.int64)
        known = np.maximum(labels - 1, 0)
        centres = self._pattern.centres_yx
        y = l_yx[0] + np.arange(hw[0])[:, None] + 0.5
        x = l_yx[1] + np.arange(hw[1]) + 0.5
        # In which repeat its centre lies that is nearest to this pixel.
        rows = np.rint((y - centres[known, 0]) / PATTERN_PX).astype(np.int64) + 1
        columns = np.rint((x - centres[known, 1]) / PATTERN_PX).astype(np.int64) + 1
        repeats = self.levels[0].width_px // PATTERN_PX + 4
        number = (rows * repeats + columns) * len(centres) + labels
        return np.where(labels > 0, number, 0)

    def close(self) -> None:
        """Do nothing."""

    @staticmethod
    def _place(l_yx: tuple[int, int], hw: tuple[int, int]) -> tuple[Any, Any]:
        rows, columns = (start + np.arange(count) for start, count in zip(l_yx, hw, strict=True))
        return rows[:, None] % PATTERN_PX, columns % PATTERN_PX


class OracleEngine:
    """Gives the grey value back as probability."""

    name, precision, device, threads, concurrency = "oracle", "fp32", "cpu", 1, 1

    def __init__(self, tile_hw: tuple[int, int]) -> None:
        self.tile_hw = tile_hw

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        sure = np.arange(256, dtype=np.float32) / np.float32(255)
        return np.stack([1 - sure, sure], axis=1)

    def infer(
        self, tile: NDArray[np.uint8], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Map a tile to two channels."""
        found = np.empty((*self.tile_hw, 2), np.float32) if out is None else out
        np.take(self._table, tile[..., 1], axis=0, out=found)
        return found

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def regions_of(core_px: int) -> Iterator[None]:
    """Let regions have another size than the one that runs have, which nobody can choose."""
    with patch.object(RegionGrid.__init__, "__defaults__", (core_px,)):
        yield


def oracle_bundle(path: Path) -> Bundle:
    """Write a bundle for `OracleEngine`: its model file is none."""
    data = b"no model"
    variant = {
        "file": "model.fp32.tflite",
        "format": "tflite",
        "precision": "fp32",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }
    fields = {
        "name": "oracle",
        "version": "1",
        "description": "Sees a pattern as it is.",
        "license": "CC0-1.0",
        "classes": [
            {"name": "background", "color": [0, 0, 0]},
            {"name": "nucleus", "color": [255, 200, 0]},
        ],
        "channels": [
            {"name": "background", "class_index": 0},
            {"name": "nucleus", "class_index": 1},
        ],
        "head": {"kind": "softmax", "instances": CELLS},
        "stride": 2,
        "halo_px": 8,
        "receptive_field_px": 8,
        "variants": [variant],
    }
    return write_bundle(path, Manifest.model_validate(fields), {"model.fp32.tflite": data})
