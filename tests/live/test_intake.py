"""The queue between cameras and a session: every frame comes out once, whoever runs when."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future
from threading import Thread

import numpy as np
import pytest

from cellseg.errors import CellsegError
from cellseg.live.counters import DropReason, Policy
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.intake import Intake

PIXELS = np.zeros((2, 2), np.uint8)


def put(intake: Intake, frame_id: int) -> None:
    intake.put(Frame(PIXELS, FrameMeta.now(frame_id)), Future())


def take_all(intake: Intake) -> list[tuple[int, DropReason | None]]:
    """Close it, and return (frame, reason or None) of all that is still to be taken."""
    intake.close(drains=True)
    found = []
    while (taken := intake.take()) is not None:
        slip, what = taken
        found.append((slip.meta.frame_id, what if isinstance(what, DropReason) else None))
    return found


@pytest.fixture
def quick_switching() -> Iterator[None]:
    """Let the interpreter change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy.DROP_OLDEST, [DropReason.OVERTAKEN] * 2 + [None, None]),
        (Policy.DROP_NEWEST, [None, None] + [DropReason.QUEUE_FULL] * 2),
    ],
    ids=str,
)
def test_what_does_not_fit_goes_by_the_policy(
    policy: Policy, expected: list[DropReason | None]
) -> None:
    intake = Intake(policy, 2)
    for number in range(4):
        put(intake, number)
    assert take_all(intake) == list(enumerate(expected))


def test_a_frame_that_was_taken_leaves_room() -> None:
    intake = Intake(Policy.DROP_OLDEST, 2)
    put(intake, 0)
    put(intake, 1)
    assert intake.take() is not None
    put(intake, 2)
    assert take_all(intake) == [(1, None), (2, None)]


def test_the_pixels_of_an_overtaken_frame_are_let_go_at_once() -> None:
    intake = Intake(Policy.DROP_OLDEST, 1)
    pixels = np.zeros((2, 2), np.uint8)
    at_rest = sys.getrefcount(pixels)
    intake.put(Frame(pixels, FrameMeta.now(0)), Future())
    put(intake, 1)
    assert sys.getrefcount(pixels) == at_rest


@pytest.mark.usefixtures("quick_switching")
@pytest.mark.parametrize("policy", Policy, ids=str)
@pytest.mark.parametrize("cameras", [1, 3], ids="cameras={}".format)
def test_every_frame_of_every_camera_comes_out_once(policy: Policy, cameras: int) -> None:
    intake, each = Intake(policy, 2), 300
    threads = [
        Thread(target=lambda first=first: [put(intake, first + n) for n in range(each)])
        for first in range(0, cameras * each, each)
    ]
    found: list[tuple[int, DropReason | None]] = []

    def watch() -> None:
        while len(found) < cameras * each:
            taken = intake.take()
            assert taken is not None
            slip, what = taken
            found.append((slip.meta.frame_id, what if isinstance(what, DropReason) else None))

    threads.append(Thread(target=watch))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(frame_id for frame_id, _ in found) == list(range(cameras * each))
    assert intake.sent == cameras * each
    if policy is Policy.BLOCK:
        assert {reason for _, reason in found} == {None}
    if policy is Policy.DROP_OLDEST and cameras == 1:
        assert found[-1] == (each - 1, None)


def test_a_frame_whose_camera_is_interrupted_while_it_waits_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    intake = Intake(Policy.BLOCK, 1)
    put(intake, 0)

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(intake._room, "wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(intake, 1)
    assert take_all(intake) == [(0, None), (1, DropReason.CANCELLED)]


def test_a_closed_one_takes_nothing_and_counts_nothing() -> None:
    intake = Intake(Policy.BLOCK, 1)
    intake.close(drains=False)
    with pytest.raises(CellsegError, match="closed session"):
        put(intake, 0)
    assert intake.sent == 0
