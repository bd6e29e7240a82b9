"""A ``.cellseg`` bundle: a stored zip of ``manifest.json`` and one file a variant.

Nothing of a bundle is used before it was checked: names (flat, exactly those the manifest lists),
sizes and the sha256 of every variant, once more for the one that is read. Nothing in it is code,
and no ONNX variant may point at data outside. Writing is deterministic: the same content gives the
same bytes.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from cellseg.errors import BundleError
from cellseg.runtime.bundles.manifest import (
    Agreement,
    Channel,
    ClassInfo,
    Head,
    InputSpec,
    InteriorBorder,
    Manifest,
    ModelCard,
    NormalizeSpec,
    Quality,
    Variant,
    VersusFp32,
)
from cellseg.runtime.bundles.onnx_file import read_onnx_facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "Agreement",
    "Bundle",
    "Channel",
    "ClassInfo",
    "Head",
    "InputSpec",
    "InteriorBorder",
    "Manifest",
    "ModelCard",
    "NormalizeSpec",
    "Quality",
    "Variant",
    "VersusFp32",
    "is_bundle_file",
    "models_folder",
    "shipped_models",
    "write_bundle",
]

SUFFIX = ".cellseg"
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20
_REBUILD = "Get the file again, or export it again with 'cellseg-cli export'."
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say; the same every time


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Holds no file handle, so it may be shared between threads.

    Examples
    --------
    >>> Bundle.open("nuclei").manifest.classes[1].name  # doctest: +SKIP
    'nucleus'
    """

    path: Path
    """The file."""

    manifest: Manifest
    """What the model is."""

    sha256: str
    """Identity of the model: hash of the manifest's bytes, then of each variant's sha256."""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The model files, in the order of the manifest."""
        return self.manifest.variants

    @classmethod
    def open(cls, name_or_path: str | Path) -> Bundle:
        """Open a bundle by the name of a shipped model or by path, and check its structure.

        Parameters
        ----------
        name_or_path : str or Path
            ``"nuclei"`` (a model that comes with the package) or the path of a ``.cellseg`` file.

        Raises
        ------
        BundleError
            If there is no such bundle, or its names, sizes, hashes or manifest are not as they must
            be: all files are checked, so that a damaged one is not found by a later choice of
            engine.
        """
        path = _find(name_or_path)
        with _open_zip(path) as archive:
            entries = _checked_entries(archive, path)
            text = _read_manifest(archive, entries, path)
        manifest = _parse_manifest(text, path)
        _check_files(manifest, entries, path)
        facts = path.stat()
        hashes = tuple((item.file, item.sha256) for item in manifest.variants)
        _check_hashes(path, hashes, facts.st_size, facts.st_mtime_ns)
        return cls(path, manifest, _identity(text, manifest))

    def read_variant(self, file: str) -> bytes:
        """Read one model file; its size, hash and self-containedness are checked first.

        Parameters
        ----------
        file : str
            ``Variant.file``.

        Raises
        ------
        BundleError
            If the manifest does not list the file, or its content is not what the manifest says.
        """
        variant = next((item for item in self.variants if item.file == file), None)
        if variant is None:
            names = [item.file for item in self.variants]
            raise BundleError(f"A variant must be one of {names}. Received: file={file!r}.")
        with _open_zip(self.path) as archive:
            data = _read_entry(archive, variant, self.path)
        _check_content(variant, data, self.path)
        return data


def write_bundle(path: str | Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> Bundle:
    """Write a bundle, whole or not at all, and open it again.

    Parameters
    ----------
    path : str or Path
        Target; an existing file is replaced.
    manifest : Manifest
        Lists exactly the given files, with their sizes and hashes.
    files : mapping of str to bytes or Path
        Content of each variant, by ``Variant.file``.

    Raises
    ------
    BundleError
        If files and manifest do not agree, or the file cannot be written.
    """
    path = Path(path)
    contents = {name: _content(source) for name, source in files.items()}
    listed = [variant.file for variant in manifest.variants]
    if sorted(listed) != sorted(contents):
        raise BundleError(
            "The manifest must list exactly the files of the bundle. "
            f"Received: manifest={sorted(listed)}, files={sorted(contents)}."
        )
    for variant in manifest.variants:
        _check_content(variant, contents[variant.file], path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_zip_info(MANIFEST_NAME), manifest.to_bytes())
            for name in listed:
                archive.writestr(_zip_info(name), contents[name])
        partial.replace(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return Bundle.open(path)


def is_bundle_file(path: Path) -> bool:
    """Say whether a file looks like a bundle: a zip archive that holds a manifest."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST_NAME in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def models_folder() -> Path:
    """Folder of the models that come with the package."""
    return Path(__file__).resolve().parents[2] / "models"


def shipped_models() -> tuple[str, ...]:
    """Names that :meth:`Bundle.open` knows without a path."""
    return tuple(sorted(path.stem for path in models_folder().glob(f"*{SUFFIX}")))


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text in shipped_models():
        return models_folder() / f"{text}{SUFFIX}"
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = ", ".join(shipped_models()) or "none"
    raise BundleError(
        f"A model must be a {SUFFIX} file or the name of a shipped model. Received: {text!r}.",
        hint=f"Shipped models: {known}. A path must exist.",
    )


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise BundleError(
            f"A bundle must be a zip file. Received: {path.name!r} ({error}).", hint=_REBUILD
        ) from error
    except OSError as error:
        raise BundleError(f"The bundle cannot be read. Received: {path} ({error}).") from error


def _checked_entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Refuse names that could lead out of the archive, doubles, links and packed entries."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        # orig_filename is what the file says; filename is already cut at NUL and normalised.
        name = info.orig_filename
        is_link = stat.S_ISLNK(info.external_attr >> 16)
        if name != Path(name).name or "\\" in name or ":" in name or info.is_dir() or is_link:
            raise BundleError(
                "Entries of a bundle must be plain files at its top. "
                f"Received: {name!r} in {path.name!r}.",
                hint="Do not use this file: it was not made by cellseg.",
            )
        if name in entries:
            raise BundleError(
                f"Entries of a bundle must differ. Received: {name!r} twice in {path.name!r}.",
                hint=_REBUILD,
            )
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise BundleError(
                f"Entries of a bundle must be stored. Received: {name!r} packed in {path.name!r}.",
                hint=_REBUILD,
            )
        entries[name] = info
    return entries


def _read_manifest(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], path: Path
) -> bytes:
    info = entries.get(MANIFEST_NAME)
    if info is None or info.file_size > MAX_MANIFEST_BYTES:
        size = "none" if info is None else f"{info.file_size} bytes"
        raise BundleError(
            f"A bundle must hold {MANIFEST_NAME} of at most {MAX_MANIFEST_BYTES} bytes. "
            f"Received: {size} in {path.name!r}.",
            hint=_REBUILD,
        )
    return _read_bytes(archive, MANIFEST_NAME, path)


def _parse_manifest(text: bytes, path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(
            f"The manifest must follow its schema. Received: {where}: {first['msg']} "
            f"({error.error_count()} in all) in {path.name!r}.",
            hint="See docs/schema/bundle.schema.json; a newer bundle needs a newer cellseg.",
        ) from error


def _check_files(manifest: Manifest, entries: dict[str, zipfile.ZipInfo], path: Path) -> None:
    listed = {variant.file: variant.bytes for variant in manifest.variants}
    found = {name: info.file_size for name, info in entries.items() if name != MANIFEST_NAME}
    if listed != found:
        odd = sorted(set(listed.items()) ^ set(found.items()))
        raise BundleError(
            "A bundle must hold exactly the files its manifest lists, at their sizes. "
            f"Received: {odd} differ in {path.name!r}.",
            hint=_REBUILD,
        )


@lru_cache(maxsize=32)
def _check_hashes(
    path: Path, hashes: tuple[tuple[str, str], ...], size: int, mtime_ns: int
) -> None:
    """Compare each file with its sha256; once, as long as the bundle stays as it is."""
    with _open_zip(path) as archive:
        for name, stated in hashes:
            found = hashlib.sha256()
            with _explained(name, path), archive.open(name) as file:
                while piece := file.read(_PIECE_BYTES):
                    found.update(piece)
            if found.hexdigest() != stated:
                raise _changed(name, found.hexdigest(), stated, path)


def _read_entry(archive: zipfile.ZipFile, variant: Variant, path: Path) -> bytes:
    entries = _checked_entries(archive, path)
    info = entries.get(variant.file)
    if info is None or info.file_size != variant.bytes:
        raise BundleError(
            f"The bundle must not change while it is open. Received: another {variant.file!r} "
            f"in {path.name!r}.",
            hint="Open it again.",
        )
    return _read_bytes(archive, variant.file, path)


def _read_bytes(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    with _explained(name, path):
        return archive.read(name)


@contextmanager
def _explained(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, EOFError, RuntimeError, OSError) as error:
        raise BundleError(
            f"The bundle must be whole. Received: {name!r} in {path.name!r} ({error}).",
            hint=_REBUILD,
        ) from error


def _check_content(variant: Variant, data: bytes, path: Path) -> None:
    """Compare size and hash with the manifest, and refuse ONNX that points outside."""
    found = hashlib.sha256(data).hexdigest()
    if len(data) != variant.bytes or found != variant.sha256:
        raise _changed(variant.file, found, variant.sha256, path)
    if variant.format == "onnx":
        external = read_onnx_facts(data).external_tensors
        if external:
            raise BundleError(
                "A model must hold its own weights. "
                f"Received: {variant.file!r} with external data for {external[0]!r}.",
                hint="Save the ONNX file without external data.",
            )


def _changed(name: str, found: str, stated: str, path: Path) -> BundleError:
    return BundleError(
        f"The content of {name!r} must have the sha256 its manifest states. "
        f"Received: {found[:12]}… instead of {stated[:12]}… in {path.name!r}.",
        hint=f"The file is damaged or was changed. {_REBUILD}",
    )


def _identity(manifest_text: bytes, manifest: Manifest) -> str:
    digest = hashlib.sha256(manifest_text)
    for variant in manifest.variants:
        digest.update(bytes.fromhex(variant.sha256))
    return digest.hexdigest()


def _content(source: bytes | Path) -> bytes:
    return source.read_bytes() if isinstance(source, Path) else source


def _zip_info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=_EPOCH)
    info.create_system = 3  # Unix, wherever it is written
    info.external_attr = 0o644 << 16
    return info
