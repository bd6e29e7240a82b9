"""What `verify` found: window by window, way by way, and whether it is good."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["VerifyReport", "WayCheck", "WindowCheck"]


@dataclass(frozen=True)
class WindowCheck:
    """One window, tiled against another way."""

    against: str
    """What the tiled result was compared with: a way of the list in `verify`."""

    y_px: int
    """Top row of the window at the working level."""

    x_px: int
    """Left column."""

    height_px: int
    """Rows compared."""

    width_px: int
    """Columns compared."""

    seams: int
    """Tiles of the plan that meet in the window, less one."""

    largest_difference: float
    """Largest difference of a channel."""

    flipped_px: int
    """Pixels of another class."""

    is_exact: bool = True
    """Whether the two should agree; blended results need not."""

    @property
    def pixels(self) -> int:
        """Pixels compared."""
        return self.height_px * self.width_px


@dataclass(frozen=True)
class WayCheck:
    """All windows of one way."""

    against: str
    """As in `WindowCheck`."""

    is_exact: bool
    """Whether it should agree."""

    largest_difference: float
    """Largest difference of a channel."""

    flipped_px: int
    """Pixels of another class."""

    pixels: int
    """Pixels compared."""

    @classmethod
    def of(cls, checks: list[WindowCheck]) -> WayCheck:
        """Add up checks of one way, at least one."""
        return cls(
            checks[0].against,
            checks[0].is_exact,
            max(check.largest_difference for check in checks),
            sum(check.flipped_px for check in checks),
            sum(check.pixels for check in checks),
        )

    @property
    def flipped_per_million(self) -> float:
        """Pixels of another class, per million compared."""
        return self.flipped_px / max(1, self.pixels) * 1e6


@dataclass(frozen=True)
class VerifyReport:
    """What was compared and how far it differs."""

    checks: tuple[WindowCheck, ...]
    """One for each window and way."""

    engine: str
    """Engine that computed it."""

    precision: str
    """Its precision."""

    tile_px: int
    """Tile of the plan."""

    halo_px: int
    """Halo of the plan."""

    max_difference: float
    """Tolerance: largest difference of a channel."""

    max_flipped_per_million: float
    """Tolerance: pixels of another class, per million."""

    @property
    def exact(self) -> list[WindowCheck]:
        """Checks of the ways that should agree."""
        return [check for check in self.checks if check.is_exact]

    @property
    def ways(self) -> list[WayCheck]:
        """The checks of each way, taken together."""
        names = dict.fromkeys(check.against for check in self.checks)
        groups = ([check for check in self.checks if check.against == name] for name in names)
        return [WayCheck.of(checks) for checks in groups]

    @property
    def pixels(self) -> int:
        """Pixels compared, each once for each way that should agree."""
        return sum(check.pixels for check in self.exact)

    @property
    def seams(self) -> int:
        """Seams of the tiled result that lie in the windows, each window counted once."""
        one_way = self.checks[0].against
        return sum(check.seams for check in self.checks if check.against == one_way)

    @property
    def largest_difference(self) -> float:
        """Largest difference of a channel anywhere."""
        return max((check.largest_difference for check in self.exact), default=0.0)

    @property
    def flipped_px(self) -> int:
        """Pixels of another class."""
        return sum(check.flipped_px for check in self.exact)

    @property
    def flipped_per_million(self) -> float:
        """The same, per million compared."""
        return self.flipped_px / max(1, self.pixels) * 1e6

    @property
    def ok(self) -> bool:
        """Whether both tolerances hold; one flipped pixel is always allowed.

        A few windows hold fewer pixels than the ten million among which one may flip.
        """
        allowed_px = max(1.0, self.pixels * self.max_flipped_per_million / 1e6)
        return self.largest_difference <= self.max_difference and self.flipped_px <= allowed_px

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "ok": self.ok,
            "largest_difference": self.largest_difference,
            "flipped_px": self.flipped_px,
            "flipped_per_million": self.flipped_per_million,
            "pixels": self.pixels,
            "seams": self.seams,
            "ways": [asdict(way) for way in self.ways],
            **asdict(self),
        }
