"""The size of tile that keeps most pixels a second is found once, and remembered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from cellseg.errors import EngineError
from cellseg.runtime.engines import tune
from cellseg.runtime.engines.measure import Measurement
from cellseg.runtime.engines.tune import fastest_tile_px
from tests.fakes import IdentityEngine

if TYPE_CHECKING:
    from pathlib import Path

SHARES = {512: 0.39, 1024: 0.66, 2048: 0.82}
KEY: dict[str, object] = {"machine": "this"}


class Trial:
    """A machine whose engine has given speeds at each size; a pass takes as long as it would."""

    def __init__(self, speeds: dict[int, float]) -> None:
        self.speeds, self.now_s = speeds, 0.0
        self.opened: list[IdentityEngine] = []

    def open_tile(self, side: int) -> IdentityEngine:
        assert all(engine.is_closed for engine in self.opened), "one engine at a time"
        if side not in self.speeds:
            raise EngineError("too large. Received: side.")
        self.opened.append(IdentityEngine((side, side)))
        return self.opened[-1]

    def measure(self, engines: dict[int, Any], **_: Any) -> dict[int, Measurement]:
        (side,) = engines
        self.now_s += 4 * side * side / self.speeds[side]
        return {side: Measurement(self.speeds[side])}

    @property
    def tried(self) -> list[int]:
        return [engine.tile_hw[0] for engine in self.opened]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path))


def choose(trial: Trial, monkeypatch: pytest.MonkeyPatch, **options: Any) -> int:
    monkeypatch.setattr(tune, "measure_speed", trial.measure)
    shares, key = options.get("shares", SHARES), options.get("key", KEY)
    return fastest_tile_px(shares, 1024, trial.open_tile, key, 96, lambda: trial.now_s)


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({512: 10e6, 1024: 9e6, 2048: 4e6}, 1024),
        ({512: 10e6, 1024: 9e6, 2048: 9e6}, 2048),
        ({512: 40e6, 1024: 9e6, 2048: 9e6}, 512),
        ({512: 1e6, 1024: 10e6, 2048: 8.1e6}, 1024),
    ],
    ids=["halo costs", "large", "small", "within noise"],
)
def test_the_tile_that_keeps_most_pixels_is_taken(
    monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float], expected: int
) -> None:
    trial = Trial(speeds)
    assert choose(trial, monkeypatch) == expected
    assert trial.tried == [1024, 512, 2048]
    assert all(engine.is_closed for engine in trial.opened)


def test_what_was_tried_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, again = Trial({512: 40e6, 1024: 9e6, 2048: 9e6}), Trial({})
    with caplog.at_level(logging.INFO, logger="cellseg"):
        assert choose(first, monkeypatch) == choose(again, monkeypatch) == 512
    assert again.tried == []
    assert "512 px is the fastest (MP/s here: 512 px 15.60, 1024 px 5.94" in caplog.text
    assert "measured earlier on this machine" in caplog.text


def test_only_what_is_missing_is_tried_and_other_keys_are_other_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speeds = {512: 10e6, 1024: 9e6, 2048: 9e6}
    small = {512: 0.39, 1024: 0.66}
    assert choose(Trial(speeds), monkeypatch, shares=small) == 1024
    more, other = Trial(speeds), Trial(speeds)
    assert choose(more, monkeypatch) == 2048
    assert more.tried == [2048]
    assert choose(Trial({}), monkeypatch, shares=small) == 1024  # a budget leaves the large one out
    choose(other, monkeypatch, key={"machine": "that"})
    assert other.tried == [1024, 512, 2048]


def test_a_slow_machine_tries_only_what_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {512: 0.4e6, 1024: 0.4e6, 2048: 9e6}
    trial, again = Trial(speeds), Trial(speeds)
    assert choose(trial, monkeypatch) == choose(again, monkeypatch) == 1024
    assert trial.tried == [1024]
    assert trial.now_s < 15
    assert again.tried == []  # not each run anew


def test_a_size_that_cannot_be_opened_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose(Trial({512: 1e6, 1024: 9e6}), monkeypatch) == 1024
    assert "2048 px cannot be used" in caplog.text
    assert choose(Trial({}), monkeypatch, key={"nothing": "opens"}) == 1024


def test_a_damaged_memory_is_measured_over(monkeypatch: pytest.MonkeyPatch) -> None:
    tune.remember(KEY, "512=fast")
    assert choose(Trial({512: 40e6, 1024: 9e6, 2048: 9e6}), monkeypatch) == 512
