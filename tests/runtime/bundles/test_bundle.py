"""A bundle is checked before a byte of it is used."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from cellseg.errors import BundleError
from cellseg.runtime.bundles import bundle as bundle_module
from cellseg.runtime.bundles.bundle import Bundle, write_bundle
from tests.bundles import make_bundle, make_manifest, tiny_onnx, variant_fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = "model.fp32.onnx"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tiny.cellseg"


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None], **zip_options: Any) -> None:
    """Write the zip again after a change of its contents."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(path, "w", **zip_options) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def test_what_is_written_is_read_back(path: Path) -> None:
    bundle = make_bundle(path)
    assert Bundle.open(path) == bundle
    assert bundle.read_variant(FILE) == tiny_onnx()
    assert bundle.variants[0].file == FILE


def test_same_content_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.cellseg"
    assert make_bundle(path).sha256 == make_bundle(other).sha256
    assert path.read_bytes() == other.read_bytes()


def test_identity_changes_with_the_model_and_with_the_manifest(tmp_path: Path) -> None:
    bundles = [
        make_bundle(tmp_path / "a.cellseg"),
        make_bundle(tmp_path / "b.cellseg", data=tiny_onnx(seed=1)),
        make_bundle(tmp_path / "c.cellseg", threshold=0.5),
    ]
    assert len({bundle.sha256 for bundle in bundles}) == 3


def test_variant_may_come_from_a_file(path: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    source.write_bytes(tiny_onnx())
    manifest = make_manifest(variant_fields(tiny_onnx()))
    assert write_bundle(path, manifest, {FILE: source}).read_variant(FILE) == tiny_onnx()


def test_shipped_model_opens_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "models_folder", lambda: tmp_path)
    make_bundle(tmp_path / "tiny.cellseg")
    assert Bundle.open("tiny").manifest.name == "tiny"
    with pytest.raises(BundleError, match="name of a shipped model") as caught:
        Bundle.open("nuclei-xl")
    assert caught.value.hint is not None
    assert "tiny" in caught.value.hint


def test_file_that_is_no_zip_is_refused(path: Path) -> None:
    path.write_bytes(b"not a zip")
    with pytest.raises(BundleError, match="must be a zip file"):
        Bundle.open(path)


def test_truncated_bundle_is_refused(path: Path) -> None:
    make_bundle(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BundleError, match="must be a zip file"):
        Bundle.open(path)


@pytest.mark.parametrize(
    "name", ["../evil.onnx", "/etc/evil", "sub/m.onnx", "..\\evil", "C:evil", "sub/"]
)
def test_entry_that_leads_out_of_the_bundle_is_refused(path: Path, name: str) -> None:
    make_bundle(path)
    rewrite(path, lambda contents: contents.update({name: b""}))
    with pytest.raises(BundleError, match="plain files at its top"):
        Bundle.open(path)


def test_symbolic_link_is_refused(path: Path) -> None:
    make_bundle(path)
    link = zipfile.ZipInfo("link.onnx")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(BundleError, match="plain files at its top"):
        Bundle.open(path)


def test_packed_entry_is_refused(path: Path) -> None:
    make_bundle(path)
    rewrite(path, lambda contents: None, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(BundleError, match="must be stored"):
        Bundle.open(path)


def test_unlisted_and_missing_files_are_refused(path: Path) -> None:
    make_bundle(path)
    rewrite(path, lambda contents: contents.update({"extra.py": b"print()"}))
    with pytest.raises(BundleError, match=r"exactly the files.*extra\.py"):
        Bundle.open(path)
    make_bundle(path)
    rewrite(path, lambda contents: contents.pop(FILE))
    with pytest.raises(BundleError, match=r"exactly the files.*model\.fp32"):
        Bundle.open(path)


def test_bundle_without_manifest_or_with_a_huge_one_is_refused(path: Path) -> None:
    make_bundle(path)
    rewrite(path, lambda contents: contents.pop("manifest.json"))
    with pytest.raises(BundleError, match=r"must hold manifest\.json"):
        Bundle.open(path)
    make_bundle(path)
    rewrite(path, lambda contents: contents.update({"manifest.json": b" " * (2 << 20)}))
    with pytest.raises(BundleError, match=r"must hold manifest\.json of at most"):
        Bundle.open(path)


def test_manifest_with_an_unknown_key_names_it(path: Path) -> None:
    make_bundle(path)

    def misspell(contents: dict[str, bytes]) -> None:
        contents["manifest.json"] = contents["manifest.json"].replace(b'"license"', b'"licence"')

    rewrite(path, misspell)
    with pytest.raises(BundleError, match="license: Field required"):
        Bundle.open(path)


def test_changed_weights_are_refused_before_use(path: Path) -> None:
    make_bundle(path)

    def flip(contents: dict[str, bytes]) -> None:
        data = bytearray(contents[FILE])
        data[-20] ^= 1
        contents[FILE] = bytes(data)

    rewrite(path, flip)
    with pytest.raises(BundleError, match="must have the sha256") as caught:
        Bundle.open(path)
    assert "damaged or was changed" in str(caught.value.hint)


def test_a_byte_that_rotted_anywhere_is_noticed_at_once(path: Path) -> None:
    make_bundle(path)
    Bundle.open(path)
    data = bytearray(path.read_bytes())
    data[data.index(tiny_onnx()) + 30] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="must be whole"):
        Bundle.open(path)


def test_bundle_exchanged_while_open_is_refused(path: Path) -> None:
    bundle = make_bundle(path)
    rewrite(path, lambda contents: contents.update({FILE: b"short"}))
    with pytest.raises(BundleError, match="must not change while it is open"):
        bundle.read_variant(FILE)


def test_variant_that_is_not_listed_is_refused(path: Path) -> None:
    with pytest.raises(BundleError, match="must be one of"):
        make_bundle(path).read_variant("manifest.json")


def test_model_with_weights_outside_is_refused(path: Path) -> None:
    model = onnx.load_from_string(tiny_onnx())
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../weights.bin")
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(BundleError, match="must hold its own weights"):
        make_bundle(path, data=model.SerializeToString())


def test_writer_refuses_what_the_manifest_does_not_say(path: Path) -> None:
    data = tiny_onnx()
    manifest = make_manifest(variant_fields(data))
    with pytest.raises(BundleError, match="list exactly the files"):
        write_bundle(path, manifest, {"other.onnx": data})
    with pytest.raises(BundleError, match="must have the sha256"):
        write_bundle(path, manifest, {FILE: data + b" "})
    assert hashlib.sha256(data).hexdigest() == manifest.variants[0].sha256
    assert list(path.parent.iterdir()) == []
