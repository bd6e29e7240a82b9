"""Overlapping crops of one field, turned and mirrored ones too: a part of one lies inside another.

Points that stand out are described by their surroundings, put into one of the eight orientations by
where these are brightest, so that a mirrored or turned crop gives the same numbers. Points that are
alike are found by hashing, not by comparing all with all. Each match says how one image would have
to be moved onto the other; two images overlap where many say the same::

    image a   . x . . y .          x and y match: the same move      -> looked at pixel by pixel
    image b         x . . y        x alone matches: any two cells do -> dropped

The last word has the correlation of the common part, of its coarse and of its fine detail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["Overlap", "Points", "overlapping_pairs", "points_of"]

_LONGEST_PX = 1024
"""Larger images are halved until they fit."""
_SCALES_PX = (1.0, 2.0)
_REACH_PX, _STEP_PX = 8, 2
_SAMPLES = 2 * _REACH_PX // _STEP_PX + 1
_MOST_POINTS = 400
_APART_PX = 4
_LEAST_CONTRAST, _LEAST_STD = 0.5, 1.5
"""Of 255: surroundings without structure are alike everywhere."""

_TABLES, _BITS = 6, 16
_CROWD = 64
"""Points of one hash beyond this say nothing: a texture."""
_POINT_LIKENESS = 0.92
_VOTES = 3
_SPREAD_PX = 24
"""Points nearer to each other may lie on one cell, and cells are alike."""
_BIN_PX = 4
_LEAST_SHARE = 0.05
_LIKENESS = 0.87
"""Correlation of detail, in both bands. Of pairs that only look alike (crops of 128 and 256 px of
20 real fields, JPEG quality down to 60) none came above 0.84."""
_BANDS_PX = ((1.5, 8.0), (1.0, 3.0))

_ORIENTATIONS = np.array(
    [
        [[0, sy], [sx, 0]] if swap else [[sx, 0], [0, sy]]
        for swap in (False, True)
        for sy in (1, -1)
        for sx in (1, -1)
    ]
)
"""What takes offsets (x, y) to the canonical ones: mirrored by signs, then swapped."""


@dataclass(frozen=True)
class Points:
    """What stands out in one image, at most 400 points."""

    places: NDArray[np.int32]
    """Shape (n, 2): x and y, px of the reduced image."""
    orientations: NDArray[np.int8]
    """Shape (n,): index of `_ORIENTATIONS`."""
    surroundings: NDArray[np.float32]
    """Shape (n, 81): zero mean, unit length, in canonical orientation."""


@dataclass(frozen=True)
class Overlap:
    """Two images that share a part."""

    one: int
    """Index of the first image."""
    two: int
    """Index of the second, above the first."""
    likeness: float
    """Correlation of the common part's detail, in the band where it is least."""
    share: float
    """Common part of the first image, 0..1."""


def points_of(image: NDArray[np.uint8]) -> Points:
    """Find and describe what stands out in an image, grey (H, W) or RGB (H, W, 3)."""
    import cv2

    grey = _reduced(image)
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.5)
    strength = np.zeros_like(grey)
    for sigma in _SCALES_PX:
        np.maximum(strength, _peaks(grey, sigma), out=strength)
    y, x = np.nonzero(strength)
    strongest = np.argsort(-strength[y, x], kind="stable")[:_MOST_POINTS]
    y, x = y[strongest], x[strongest]
    offsets = np.arange(-_REACH_PX, _REACH_PX + 1, _STEP_PX)
    patches = smooth[y[:, None, None] + offsets[:, None], x[:, None, None] + offsets]
    kept = patches.std(axis=(1, 2)) > _LEAST_STD
    patches, turns = _canonical(patches[kept])
    return Points(np.stack([x, y], -1)[kept].astype(np.int32), turns, _unit(patches))


def overlapping_pairs(
    points: Sequence[Points], read: Callable[[int], NDArray[np.uint8]]
) -> list[Overlap]:
    """Find pairs of images of which a part is the same, in any of the eight orientations.

    Parameters
    ----------
    points : sequence of Points
        Of all images.
    read : callable
        Image of an index, as for `points_of`; called for the pairs that may overlap.

    Returns
    -------
    list of Overlap
        In the order of their images.
    """
    owner = np.repeat(np.arange(len(points)), [len(item.places) for item in points])
    if len(owner) < 2 * _VOTES:
        return []
    surroundings = np.concatenate([item.surroundings for item in points])
    one, two = _alike(surroundings, owner)
    places = np.concatenate([item.places for item in points])
    turns = np.concatenate([item.orientations for item in points])
    moves = _agreed(owner, places, turns, one, two)
    kept: dict[int, NDArray[np.float32]] = {}

    def reduced(index: int) -> NDArray[np.float32]:
        if index not in kept:
            while len(kept) >= 64:  # the oldest goes
                del kept[next(iter(kept))]
            kept[index] = _reduced(read(index))
        return kept[index]

    found: dict[tuple[int, int], Overlap] = {}
    for (first, second), turn, shift in moves:
        likeness, share = _compare(reduced(first), reduced(second), turn, shift)
        before = found.get((first, second))
        if (
            share >= _LEAST_SHARE
            and likeness >= _LIKENESS
            and (before is None or likeness > before.likeness)
        ):
            found[first, second] = Overlap(first, second, likeness, share)
    return [found[key] for key in sorted(found)]


def _peaks(grey: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Contrast of a spot or hole of one size where it is highest, 0 elsewhere and at the rim."""
    import cv2

    found = np.zeros_like(grey)
    if min(grey.shape) <= 2 * _REACH_PX:
        return found

    wide = cv2.GaussianBlur(grey, (0, 0), 2 * sigma)
    contrast = np.abs(cv2.GaussianBlur(grey, (0, 0), sigma) - wide)
    peak = cv2.dilate(contrast, np.ones((2 * _APART_PX + 1,) * 2, np.uint8)) == contrast
    inside = slice(_REACH_PX, -_REACH_PX)
    kept = (peak & (contrast > _LEAST_CONTRAST))[inside, inside]
    found[inside, inside] = np.where(kept, contrast[inside, inside], 0)
    return found


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey float32, halved until its longest side fits."""
    import cv2

    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    while max(grey.shape) > _LONGEST_PX:
        size = (max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.float32)


def _canonical(
    patches: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Mirror and swap each patch so that it is brightest to the right, then downwards."""
    offsets = np.arange(_SAMPLES) - _SAMPLES // 2
    centred = patches - patches.mean(axis=(1, 2), keepdims=True)
    pull_x = (centred * offsets).sum(axis=(1, 2))
    pull_y = (centred * offsets[:, None]).sum(axis=(1, 2))
    left, up, steep = pull_x < 0, pull_y < 0, np.abs(pull_y) > np.abs(pull_x)
    patches = np.where(left[:, None, None], patches[:, :, ::-1], patches)
    patches = np.where(up[:, None, None], patches[:, ::-1], patches)
    patches = np.where(steep[:, None, None], patches.transpose(0, 2, 1), patches)
    return patches, (left + 2 * up + 4 * steep).astype(np.int8)


def _unit(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = patches.reshape(len(patches), _SAMPLES**2)
    flat = flat - flat.mean(1, keepdims=True)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True), np.float32)


def _alike(
    surroundings: NDArray[np.float32], owner: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of points of different images whose surroundings correlate, the lower image first."""
    rng = np.random.default_rng(0)
    planes = rng.standard_normal((surroundings.shape[1], _TABLES * _BITS)).astype(np.float32)
    # What all have in common, as a blob in the middle, must not decide the bits.
    bits = (surroundings - surroundings.mean(0)) @ planes > 0
    powers = 1 << np.arange(_BITS)
    pairs = [
        _in_one_bin(bits[:, table : table + _BITS] @ powers, owner)
        for table in range(0, _TABLES * _BITS, _BITS)
    ]
    joined = np.unique(np.concatenate(pairs), axis=0)
    chunks = [
        (surroundings[part[:, 0]] * surroundings[part[:, 1]]).sum(1)
        for part in np.array_split(joined, len(joined) // 2**20 + 1)
    ]
    alike = joined[np.concatenate(chunks) > _POINT_LIKENESS]
    return alike[:, 0], alike[:, 1]


def _in_one_bin(keys: NDArray[np.intp], owner: NDArray[np.intp]) -> NDArray[np.intp]:
    """Pairs of points of one hash, shape (n, 2), the lower point first; crowds left out."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    crowd = np.bincount(ordered)[ordered]
    order, ordered = order[crowd <= _CROWD], ordered[crowd <= _CROWD]
    found = []
    for distance in range(1, _CROWD):  # neighbours in the order, ever farther
        same = np.flatnonzero(ordered[:-distance] == ordered[distance:])
        if not same.size:
            break
        one, two = order[same], order[same + distance]  # stable: one < two
        differ = owner[one] != owner[two]
        found.append(np.stack([one[differ], two[differ]], -1))
    return np.concatenate(found) if found else np.empty((0, 2), np.intp)


Move = tuple[tuple[int, int], "NDArray[np.int64]", "NDArray[np.float64]"]


def _agreed(
    owner: NDArray[np.intp],
    places: NDArray[np.int32],
    turns: NDArray[np.int8],
    one: NDArray[np.intp],
    two: NDArray[np.intp],
) -> list[Move]:
    """List moves of one image onto another, ``x2 = turn @ x1 + shift``, that points agree on."""
    # The inverse of an orientation is its transpose.
    turn = _ORIENTATIONS[turns[two]].transpose(0, 2, 1) @ _ORIENTATIONS[turns[one]]
    shift = places[two] - (turn @ places[one][..., None])[..., 0]
    code = (turn @ (1, 3)) @ (1, 10)
    moves: dict[tuple[int, ...], Move] = {}
    for offset_x in (0, _BIN_PX // 2):
        for offset_y in (0, _BIN_PX // 2):
            bins = (shift + np.array([offset_x, offset_y])) // _BIN_PX
            votes = np.column_stack([owner[one], owner[two], code, bins])
            _, first, inverse, count = np.unique(
                votes, axis=0, return_index=True, return_inverse=True, return_counts=True
            )
            for kind in np.flatnonzero(count >= _VOTES).tolist():
                members = np.flatnonzero(inverse.ravel() == kind)
                points = np.unique(one[members])
                spread = np.ptp(places[points], axis=0).max()
                if len(points) < _VOTES or spread < _SPREAD_PX:
                    continue
                place, middle = first[kind], np.median(shift[members], axis=0)
                pair = (int(owner[one[place]]), int(owner[two[place]]))
                key = (*pair, int(code[place]), *np.rint(middle).astype(int).tolist())
                moves[key] = (pair, turn[place], middle)  # once, though several bins found it
    return list(moves.values())


def _compare(
    one: NDArray[np.float32],
    two: NDArray[np.float32],
    turn: NDArray[np.int64],
    shift: NDArray[np.float64],
) -> tuple[float, float]:
    """Least correlation of the common part's detail, and its share of the first image."""
    import cv2

    matrix = np.column_stack([turn, shift]).astype(np.float64)
    size = (one.shape[1], one.shape[0])
    how = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    common = cv2.warpAffine(np.ones(two.shape, np.uint8), matrix, size, flags=how) > 0
    if common.sum() < 2:
        return 0.0, 0.0
    likeness = []
    for fine, coarse in _BANDS_PX:
        moved = cv2.warpAffine(_band(two, fine, coarse), matrix, size, flags=how)
        left, right = _band(one, fine, coarse)[common], moved[common]
        left, right = left - left.mean(), right - right.mean()
        length = float(np.linalg.norm(left) * np.linalg.norm(right))
        likeness.append(float(left @ right) / max(length, 1e-6))
    return min(likeness), float(common.mean())


def _band(grey: NDArray[np.float32], fine: float, coarse: float) -> NDArray[np.float32]:
    """Detail between two sizes, sigma, px."""
    import cv2

    return np.asarray(cv2.GaussianBlur(grey, (0, 0), fine) - cv2.GaussianBlur(grey, (0, 0), coarse))
