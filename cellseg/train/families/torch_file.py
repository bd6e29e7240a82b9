"""Reads the arrays of a file that ``torch.save`` wrote, without torch and without running it.

Such a file is a pickle, which may name any function of Python to be called on loading. Here only
what tables of weights are made of is known; any other name ends the reading. Both forms are read::

    since 2020   a zip archive: NAME/data.pkl, and the bytes of each storage in NAME/data/KEY
    before       one pickle after the other: a magic number, a version, the system, the table, the
                 keys of its storages; then for each key the count as int64, and the bytes

.. [1] torch/serialization.py, "legacy" and zip formats (PyTorch 1.6 release notes, 2020).
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_tensors"]

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


_DAMAGE = (  # what pickle and zipfile raise where bytes are not as they were written
    pickle.UnpicklingError, zipfile.BadZipFile, EOFError, LookupError, TypeError, AttributeError,
    ImportError, OverflowError, MemoryError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage, whose bytes may come later in the file."""

    dtype: str
    key: str
    offset: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]  # in values, not bytes

    def over(self, data: bytes) -> NDArray[Any]:
        """Return the array, its own memory."""
        flat: NDArray[Any] = np.frombuffer(data, self.dtype)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.steps, strict=True))
        is_inside = last < len(flat) and math.prod(self.shape) <= len(flat)
        if min(self.offset, *self.shape, *self.steps, last) < 0 or not is_inside:
            raise ValueError("a tensor lies outside its storage")
        strides = [step * flat.itemsize for step in self.steps]
        view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides)
        return np.array(view)


def _rebuild(
    storage: tuple[str, str], offset: int, shape: tuple[int, ...], steps: tuple[int, ...], *_: Any
) -> _Tensor:
    dtype, key = storage
    return _Tensor(dtype, key, int(offset), tuple(shape), tuple(steps))


class _Unpickler(pickle.Unpickler):
    """Knows tables and tensors, and no other name."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of the file stands for."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        raise pickle.UnpicklingError(f"it names {module}.{name}, which tables of weights do not")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """Return type and key of a storage."""
        if not isinstance(pid, tuple) or pid[0] != "storage" or (len(pid) > 5 and pid[5]):
            raise pickle.UnpicklingError("it holds more than whole storages")
        return pid[1], str(pid[2])


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read a table of weights.

    Parameters
    ----------
    path : Path
        File of ``torch.save(model.state_dict(), path)``.

    Returns
    -------
    dict of str to ndarray
        Arrays as torch lays them out: convolutions (out, in, H, W).

    Raises
    ------
    ValueError
        If the file is none, is damaged, or holds anything but such a table.
    OSError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            is_zip = zipfile.is_zipfile(file)
            file.seek(0)
            table, bytes_of = _open_zip(file) if is_zip else _open_stream(file)
            if not isinstance(table, dict):
                raise ValueError("it holds no table")
            found = {k: v for k, v in table.items() if isinstance(v, _Tensor)}
            if not found or len(found) < len(table):
                raise ValueError("it holds more than arrays")
            return {str(name): tensor.over(bytes_of(tensor.key)) for name, tensor in found.items()}
    except _DAMAGE as error:
        raise ValueError(str(error) or "it is cut off") from error


def _open_zip(file: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    archive = zipfile.ZipFile(file)
    tables = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(tables) != 1:
        raise ValueError("it is a zip archive of something else")
    folder = tables[0].removesuffix("data.pkl")
    table = _next(io.BytesIO(archive.read(tables[0])))
    return table, lambda key: archive.read(f"{folder}data/{key}")


def _next(file: BinaryIO) -> Any:
    return _Unpickler(file).load()


def _open_stream(file: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    if (_next(file), _next(file)) != (_MAGIC, _VERSION):
        raise ValueError("it was not written by torch")
    _next(file)  # the system that wrote it
    table, keys = _next(file), _next(file)
    if not isinstance(table, dict):
        raise ValueError("it holds no table")
    width = {t.key: np.dtype(t.dtype).itemsize for t in table.values() if isinstance(t, _Tensor)}
    storages = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little", signed=True)
        if count < 0:
            raise ValueError("a storage has a size below 0")
        storages[str(key)] = file.read(count * width[str(key)])
    return table, storages.__getitem__
