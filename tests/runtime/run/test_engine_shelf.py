"""Engines stay open between images, as many as are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cellseg.runtime.batch import infer_batch
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.run.engine_shelf import EngineShelf
from tests.fakes import IdentityEngine, fake_bundle


@pytest.fixture
def opened() -> list[IdentityEngine]:
    return []


@pytest.fixture
def shelf(opened: list[IdentityEngine]) -> EngineShelf:
    def open_engine(_: Any, __: Any, tile_hw: tuple[int, int]) -> Any:
        opened.append(IdentityEngine(tile_hw))
        return opened[-1]

    return EngineShelf(open_engine, kept=2)


def lend(shelf: EngineShelf, bundle: Any, side: int, **options: Any) -> Any:
    with shelf.lend(bundle, InferOptions(**options), (side, side)) as engine:
        return engine


def test_the_engine_of_an_earlier_image_is_lent_again(
    tmp_path: Path, shelf: EngineShelf, opened: list[IdentityEngine]
) -> None:
    bundle = fake_bundle(tmp_path / "m.cellseg")
    assert lend(shelf, bundle, 64) is lend(shelf, bundle, 64)
    assert lend(shelf, bundle, 64, threads=1) is not lend(shelf, bundle, 64)
    assert len(opened) == 2


def test_the_engine_used_longest_ago_is_closed_first(
    tmp_path: Path, shelf: EngineShelf, opened: list[IdentityEngine]
) -> None:
    bundle = fake_bundle(tmp_path / "m.cellseg")
    for side in (32, 64, 32, 96):
        lend(shelf, bundle, side)
    assert [(engine.tile_hw[0], engine.is_closed) for engine in opened] == [
        (32, False),
        (64, True),
        (96, False),
    ]
    shelf.close()
    assert all(engine.is_closed for engine in opened)


def test_an_engine_that_was_in_use_when_something_failed_is_not_kept(
    tmp_path: Path, shelf: EngineShelf, opened: list[IdentityEngine]
) -> None:
    bundle = fake_bundle(tmp_path / "m.cellseg")
    with pytest.raises(KeyError), shelf.lend(bundle, InferOptions(), (64, 64)):
        raise KeyError
    assert opened[0].is_closed
    assert lend(shelf, bundle, 64) is opened[1]


def test_a_batch_opens_one_engine_for_images_of_one_size(
    tmp_path: Path, opened: list[IdentityEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cellseg.runtime.jobs.job.open_engine_for",
        lambda _, __, tile_hw: opened.append(IdentityEngine(tile_hw)) or opened[-1],
    )
    paths = [write_image(tmp_path / f"{i}.png", width) for i, width in enumerate((70, 70, 99, 70))]
    bundle = fake_bundle(tmp_path / "m.cellseg")
    outcomes = list(infer_batch(paths, tmp_path / "o", InferOptions(model=bundle.path), Silent))
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert len(opened) == 2
    assert all(engine.is_closed for engine in opened)


@pytest.mark.parametrize(("count", "stays_open"), [(1, False), (2, True)])
def test_an_engine_stays_open_while_files_are_written_only_for_the_next_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, stays_open: bool
) -> None:
    from cellseg.runtime import infer

    seen: list[bool] = []
    write = infer.write_results

    def watched(folder: Path, job: Any, engine: Any, *more: Any) -> Any:
        seen.append(not engine.is_closed)
        return write(folder, job, engine, *more)

    monkeypatch.setattr(infer, "write_results", watched)
    for module in ("jobs.job", "infer"):
        name = f"cellseg.runtime.{module}.open_engine_for"
        monkeypatch.setattr(name, lambda _, __, tile_hw: IdentityEngine(tile_hw))
    paths = [write_image(tmp_path / f"{i}.png", 70) for i in range(count)]
    bundle = fake_bundle(tmp_path / "m.cellseg")
    outcomes = list(infer_batch(paths, tmp_path / "o", InferOptions(model=bundle.path), Silent))
    assert [outcome.error for outcome in outcomes] == [None] * count
    assert seen == [stays_open] * count


class Silent:
    """A watch that looks away."""

    def __init__(self, _: Path) -> None: ...

    def __enter__(self) -> Any:
        return lambda _: None

    def __exit__(self, *_: object) -> None: ...


def write_image(path: Path, width: int) -> Path:
    cv2.imwrite(str(path), np.full((60, width, 3), 99, np.uint8))
    return path
