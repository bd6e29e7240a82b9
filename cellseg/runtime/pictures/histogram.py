"""Histograms as SVG: bars stacked by class, for the report's page and as a file."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.pictures.marks import nice_number, number_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Histogram", "histogram_of", "histogram_svg"]

_BINS = 32
_TAIL = 0.98
_WIDTH, _HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 16, 10, 42
_STYLE = (
    "<style>svg{color:#1f2430;background:#fff}"
    "@media(prefers-color-scheme:dark){svg{color:#e6e8ee;background:#14161b}}</style>"
)


@dataclass(frozen=True)
class Histogram:
    """Counts of a measurement, class by class."""

    label: str
    """What is measured, with its unit."""
    edges: NDArray[np.floating[Any]]
    """Ends of the bins, shape (n + 1,)."""
    counts: Mapping[str, NDArray[np.int64]]
    """Cells in each bin, by class, shape (n,)."""
    beyond: int = 0
    """Cells outside the bins, not shown."""
    median: float | None = None
    """Of all cells, those beyond included."""

    @classmethod
    def empty(cls, label: str) -> Histogram:
        """Return what is drawn where there is nothing to count."""
        return cls(label, np.array([0.0, 1.0]), {})


def histogram_of(
    values: NDArray[Any], classes: NDArray[Any], names: Sequence[str], label: str
) -> Histogram | None:
    """Count a measurement of cells; None where it was not taken.

    Parameters
    ----------
    values : float, shape (n,)
        NaN where there is none.
    classes : text, shape (n,)
        Class of each cell.
    names : sequence of str
        Classes in the order in which they are stacked.
    label : str
        What is measured.
    """
    known = np.isfinite(np.asarray(values, np.float64))
    kept = np.asarray(values, np.float64)[known]
    if not kept.size:
        return None
    low = -nice_number(-float(np.quantile(kept, 1 - _TAIL)))
    high = max(nice_number(float(np.quantile(kept, _TAIL))), low + 1e-6)
    edges = np.linspace(low, high, _BINS + 1)
    of = np.asarray(classes)[known]
    counts = {name: np.histogram(kept[of == name], edges)[0].astype(np.int64) for name in names}
    return Histogram(
        label,
        edges,
        counts,
        int(np.count_nonzero((kept > high) | (kept < low))),
        float(np.median(kept)),
    )


def histogram_svg(found: Histogram, colours: Mapping[str, str], *, standalone: bool = False) -> str:
    """Draw a histogram as SVG; text takes the colour of what is around it.

    Parameters
    ----------
    found : Histogram
    colours : mapping of class name to CSS colour
    standalone : bool
        For a file of its own: with a name space and colours for dark and light screens.
    """
    top = int(np.sum(list(found.counts.values()), axis=0).max(initial=0)) if found.counts else 0
    ceiling = max(2.0, nice_number(top))
    head = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(found.label)}"'
    if standalone:
        head = f'xmlns="http://www.w3.org/2000/svg" width="{2 * _WIDTH}" {head}'
    parts = [
        f'<svg {head} font-family="system-ui,sans-serif" font-size="11" fill="currentColor">',
        _STYLE if standalone else "",
        _grid(ceiling),
        _bars(found, colours, ceiling),
        _axis(found),
        "</svg>",
    ]
    return "".join(parts)


def _grid(ceiling: float) -> str:
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = _y(share)
        lines.append(
            f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="currentColor" '
            f'stroke-opacity="{0.5 if share == 0 else 0.15}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{number_text(ceiling * share)}</text>"
        )
    return "".join(lines)


def _bars(found: Histogram, colours: Mapping[str, str], ceiling: float) -> str:
    bins = len(found.edges) - 1
    width = (_WIDTH - _LEFT - _RIGHT) / bins
    floor = np.zeros(bins)
    parts = []
    for name, counts in found.counts.items():
        for index in np.flatnonzero(counts).tolist():
            base, count = floor[index] / ceiling, int(counts[index])
            y = _y(base + count / ceiling)
            text = f"{name}, {found.edges[index]:.4g} to {found.edges[index + 1]:.4g}: {count}"
            parts.append(
                f'<rect x="{_LEFT + index * width + 0.5:.1f}" y="{y:.1f}" '
                f'width="{width - 1:.1f}" height="{_y(base) - y:.1f}" '
                f'fill="{html.escape(colours[name])}"><title>{html.escape(text)}</title></rect>'
            )
        floor += counts
    return "".join(parts)


def _axis(found: Histogram) -> str:
    low, high = float(found.edges[0]), float(found.edges[-1])
    ticks = [low + (high - low) * share for share in (0, 0.25, 0.5, 0.75, 1)]
    parts = [
        f'<text x="{_x(share):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
        f"{number_text(value)}</text>"
        for share, value in zip((0, 0.25, 0.5, 0.75, 1), ticks, strict=True)
    ]
    note = f"; {found.beyond} beyond" if found.beyond else ""
    parts.append(
        f'<text x="{_x(0.5):.1f}" y="{_HEIGHT - 8}" text-anchor="middle" font-weight="600">'
        f"{html.escape(found.label + note)}</text>"
    )
    if found.median is not None and low <= found.median <= high:
        share = (found.median - low) / (high - low)
        x, side = _x(share), 1 if share < 0.7 else -1
        anchor = "start" if side > 0 else "end"
        parts.append(
            f'<path d="M{x:.1f} {_y(1)}V{_y(0)}" stroke="currentColor" stroke-dasharray="3 3"/>'
            f'<text x="{x + 4 * side:.1f}" y="{_y(1) + 9}" text-anchor="{anchor}">'
            f"median {number_text(found.median)}</text>"
        )
    return "".join(parts)


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
