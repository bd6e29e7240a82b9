"""Pictures of an evaluation: curves, the confusion matrix, and images with both outlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.train.images.cell_crops import drawable
from cellseg.train.networks.predict import class_map

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.scores.reliability import Reliability
    from cellseg.train.scores.truth import Truth
    from cellseg.train.scores.way_scores import WayScores

__all__ = ["draw_calibration", "draw_confusion", "draw_ranked", "draw_thresholds"]

_PANEL_PX, _TEXT_PX = 320, 22


def draw_confusion(scores: WayScores, path: Path) -> None:
    """Draw the share of each true class that was taken for each class."""
    plt = _pyplot()
    counts = scores.confusion
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.2 + 0.8 * len(counts)
    figure, axis = plt.subplots(figsize=(side + 0.8, side), layout="constrained")
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(shares):
        color = "white" if value > 0.6 else "black"
        axis.text(column, row, f"{100 * value:.1f} %", ha="center", va="center", color=color)
    names = scores.class_names
    axis.set(xlabel="predicted", ylabel="true", title=f"pixels, {scores.way}")
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    figure.colorbar(image, shrink=0.8, label="share of the true class")
    _save(figure, path)


def draw_calibration(reliability: Reliability, path: Path) -> None:
    """Draw the share that was true over the probability that was said."""
    plt = _pyplot()
    bins = reliability.calibration()
    figure, axis = plt.subplots(figsize=(5, 4.5), layout="constrained")
    axis.plot([0, 1], [0, 1], color="0.7", label="perfect")
    said, true = [item["said"] for item in bins], [item["true"] for item in bins]
    share = np.sqrt([item["pixels"] for item in bins])
    axis.plot(said, true, color="tab:blue")
    axis.scatter(said, true, s=8 + 120 * share / share.max(), color="tab:blue", label="pixels")
    title = f"calibration error {reliability.error:.4f}"
    axis.set(xlabel="foreground probability, said", ylabel="share that is foreground", title=title)
    axis.grid(alpha=0.3)
    axis.legend()
    _save(figure, path)


def draw_thresholds(reliability: Reliability, path: Path) -> None:
    """Draw Dice, precision and recall over the threshold."""
    plt = _pyplot()
    rows = reliability.thresholds()
    best = max(rows, key=lambda row: row["dice"])
    figure, axis = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
    for name in ("dice", "precision", "recall"):
        axis.plot([row["threshold"] for row in rows], [row[name] for row in rows], label=name)
    axis.axvline(best["threshold"], color="0.6", linestyle=":")
    title = f"best Dice {best['dice']:.3f} at {best['threshold']:.2f}"
    axis.set(xlabel="threshold", ylabel="over all pixels", ylim=(0, 1.02), title=title)
    axis.grid(alpha=0.3)
    axis.legend()
    _save(figure, path)


def draw_ranked(
    panels: Sequence[tuple[str, Truth, NDArray[np.float32]]],
    colors: NDArray[np.uint8],
    threshold: float,
    path: Path,
) -> None:
    """Draw images by rank: the image, and on it the true outline in white, the found one in colour.

    Parameters
    ----------
    panels : sequence of (str, Truth, float32 (H, W, classes))
        Rank such as "worst 1", image with its truth, probabilities.
    colors : uint8, shape (classes, 3)
        Colour of each class.
    threshold : float
        Foreground from this probability on.
    path : Path
        JPEG to write.
    """
    rows = []
    for name in ("best", "median", "worst"):
        group = sorted((p for p in panels if p[0].startswith(name)), key=lambda panel: panel[0])
        rows += [[_panel(*panel, colors, threshold) for panel in group]] if group else []
    width = max(len(row) for row in rows)
    blank = np.full_like(rows[0][0], 255)
    sheet = np.vstack([np.hstack(row + [blank] * (width - len(row))) for row in rows])
    cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def _panel(
    rank: str,
    truth: Truth,
    probabilities: NDArray[np.float32],
    colors: NDArray[np.uint8],
    threshold: float,
) -> NDArray[np.uint8]:
    found = class_map(probabilities, threshold)
    image = drawable(truth.image)
    factor = _PANEL_PX / max(found.shape)
    height, width = (max(1, round(side * factor)) for side in found.shape)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    small = cv2.resize(image, (width, height), interpolation=how)
    maps = [
        cv2.resize(m, (width, height), interpolation=cv2.INTER_NEAREST)
        for m in (truth.classes, found)
    ]
    drawn = small.copy()
    tinted = maps[1] > 0
    drawn[tinted] = (0.65 * drawn[tinted] + 0.35 * colors[maps[1][tinted]]).astype(np.uint8)
    drawn[_outline(maps[1])] = colors[np.maximum(maps[1].max(), 1)]
    drawn[_outline(maps[0])] = (255, 255, 255)
    panel = np.full((_PANEL_PX + _TEXT_PX, 2 * _PANEL_PX + 8, 3), 255, np.uint8)
    panel[_TEXT_PX : _TEXT_PX + height, :width] = small
    panel[_TEXT_PX : _TEXT_PX + height, _PANEL_PX : _PANEL_PX + width] = drawn
    shared = int(((truth.classes > 0) & (found > 0)).sum())
    both = int((truth.classes > 0).sum()) + int((found > 0).sum())
    text = f"{rank}: {truth.name[:34]}  Dice {2 * shared / both if both else 1.0:.3f}"
    black = (0, 0, 0)
    cv2.putText(panel, text, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, black, 1, cv2.LINE_AA)
    return panel


def _outline(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    edge = np.zeros(classes.shape, bool)
    edge[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    edge[:-1] |= classes[:-1] != classes[1:]
    return edge


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
    _pyplot().close(figure)
