"""A slide is known again by its content."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from cellseg.runtime.identity import slide_identity
from cellseg.runtime.readers import open_slide
from cellseg.runtime.slide import ArraySlide
from tests.slides import scene, write_svs

if TYPE_CHECKING:
    from pathlib import Path


def identity(path: Path) -> str:
    with closing(open_slide(path)) as slide:
        return slide_identity(slide)


def test_identity_follows_the_content_not_the_name(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", scene(300, 400), compression="jpeg")
    before = identity(path)
    moved = path.rename(tmp_path / "b.svs")
    write_svs(path, scene(300, 400)[::-1], compression="jpeg")
    assert identity(moved) == before
    assert identity(path) != before


def test_identity_of_an_array_covers_every_pixel() -> None:
    image = scene()
    changed = image.copy()
    changed[150, 200, 1] ^= 1
    assert slide_identity(ArraySlide(image)) == slide_identity(ArraySlide(image.copy()))
    assert slide_identity(ArraySlide(image)) != slide_identity(ArraySlide(changed))
