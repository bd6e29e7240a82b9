"""Archives that behave are unpacked; those that escape or explode are refused before they can."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cellseg.data.annotations import archives
from cellseg.data.annotations.import_data import import_data
from cellseg.errors import DataError
from tests.data.made import write_source


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_of_a_source_is_imported(kind: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "mine")
    path = tmp_path / f"mine.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in source.rglob("*.png"):
                archive.write(file, file.relative_to(tmp_path))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(source, "mine")
    report = import_data(path, tmp_path / "out")
    assert report.images == {"": 3}
    names = {item.name for item in (tmp_path / "out").iterdir()}
    assert names == {"images", "masks", "labels", "classes.json", "manifest.csv"}


@pytest.mark.parametrize(
    "name", ["../evil.png", "/evil.png", "a/../../evil.png", "..\\evil.png", "C:/x"]
)
def test_a_path_that_escapes_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / "bad.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/a.png", b"x")
        archive.writestr(name, b"x")
    with pytest.raises(DataError, match="outside the folder"):
        import_data(path, tmp_path / "out" / "set")
    left = {item.name for item in tmp_path.rglob("*")}
    assert left <= {"in", "bad.zip", "out"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("images/a.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match="a link or device"):
        archives.unpack(path, tmp_path / "out")


def test_a_zip_bomb_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/a.png", bytes(80 << 20))
    with pytest.raises(DataError, match="zip bomb"):
        archives.unpack(path, tmp_path / "out")
    assert not any((tmp_path / "out").rglob("*"))


def test_a_tar_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = 80 << 20
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(DataError, match="zip bomb"):
        archives.unpack(path, tmp_path / "out")


def test_an_archive_whose_data_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", np.random.default_rng(0).bytes(50_000))
    data = bytearray(path.read_bytes())
    data[35:60] = b"\xff" * 25
    path.write_bytes(data)
    with pytest.raises(DataError, match="whole and readable"):
        archives.unpack(path, tmp_path / "out")


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = 50_000
        archive.addfile(member, io.BytesIO(rng.bytes(member.size)))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match="whole and readable"):
        archives.unpack(path, tmp_path / "out")
