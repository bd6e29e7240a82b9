"""The folder of a result."""

from __future__ import annotations

from pathlib import Path

from cellseg.runtime.result_folder import result_folder


def test_folders_are_named_after_their_slides() -> None:
    assert result_folder("a/b.ome.tiff", "out") == Path("out/b")
    assert result_folder("a/b.c.svs", "out") == Path("out/b.c")
    assert result_folder("a/dicom-folder", "out") == Path("out/dicom-folder")
    assert result_folder("<array>", "out") == Path("out/_array_")
