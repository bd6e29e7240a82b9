"""Tables of weights are read without torch, and nothing else in such a file is run."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellseg.train.families.torch_file import read_tensors

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


class _Storage:
    def __init__(self, key: str, kind: Any, count: int) -> None:
        self.pid = ("storage", kind, key, "cpu", count)


class _Pickled:
    """A tensor as torch pickles it: a view of a storage."""

    def __init__(self, rebuild: Any, storage: _Storage, place: tuple[Any, ...]) -> None:
        self.parts = rebuild, (storage, *place, False, OrderedDict())

    def __reduce__(self) -> Any:
        return self.parts


class _Writer(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return (*obj.pid, None)[:5] if isinstance(obj, _Storage) else None


@pytest.fixture
def torch_names(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Names that a file of torch holds, importable so that pickle writes them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*parts: Any) -> None:
        raise AssertionError("written, never called")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    kinds = {}
    for name in ("FloatStorage", "LongStorage"):
        kinds[name] = type(name, (), {"__module__": "torch"})
        setattr(torch, name, kinds[name])
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return types.SimpleNamespace(rebuild=_rebuild_tensor_v2, **kinds)


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Writer(buffer, 2).dump(value)
    return buffer.getvalue()


def _write(path: Path, table: Any, storages: dict[str, np.ndarray], form: str) -> None:
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net/data.pkl", _pickled(table))
            for key, values in storages.items():
                archive.writestr(f"net/data/{key}", values.tobytes())
        return
    parts = [_pickled(part) for part in (MAGIC, VERSION, {}, table, list(storages))]
    for values in storages.values():
        parts += [len(values).to_bytes(8, "little"), values.tobytes()]
    path.write_bytes(b"".join(parts))


def _table(names: types.SimpleNamespace, place: tuple[Any, ...] = (2, (2, 3), (3, 1))) -> Any:
    floats = _Storage("a", names.FloatStorage, 12)
    return OrderedDict(
        kernel=_Pickled(names.rebuild, floats, place),
        turned=_Pickled(names.rebuild, floats, (0, (3, 2), (1, 3))),
        steps=_Pickled(names.rebuild, _Storage("b", names.LongStorage, 1), (0, (), ())),
    )


STORAGES = {"a": np.arange(12, dtype="<f4"), "b": np.array([7], "<i8")}


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_arrays_come_back_as_views_say(tmp_path: Path, torch_names: Any, form: str) -> None:
    path = tmp_path / "net.pth"
    _write(path, _table(torch_names), STORAGES, form)
    found = read_tensors(path)
    np.testing.assert_array_equal(found["kernel"], [[2, 3, 4], [5, 6, 7]])
    np.testing.assert_array_equal(found["turned"], [[0, 3], [1, 4], [2, 5]])
    assert found["steps"].shape == ()
    assert found["steps"] == 7


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_a_call_hidden_in_a_file_is_refused_and_not_made(
    tmp_path: Path, torch_names: Any, form: str
) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "net.pth"
    _write(path, _table(torch_names) | {"harm": Harm()}, STORAGES, form)
    with pytest.raises(ValueError, match=r"names (posix|nt)\.mkdir"):
        read_tensors(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "place",
    [
        (8, (2, 3), (3, 1)),
        (0, (10**9, 10**3), (0, 0)),
        (-1, (2, 3), (3, 1)),
        (0, (2, 3), (-3, 1)),
        (0, (2, -3), (3, 1)),
    ],
    ids=str,
)
def test_a_view_outside_its_storage_is_refused(
    tmp_path: Path, torch_names: Any, place: Any
) -> None:
    path = tmp_path / "net.pth"
    _write(path, _table(torch_names, place), STORAGES, "zip")
    with pytest.raises(ValueError, match="outside its storage"):
        read_tensors(path)


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, torch_names: Any, form: str) -> None:
    whole, path = tmp_path / "whole.pth", tmp_path / "net.pth"
    _write(whole, _table(torch_names), STORAGES, form)
    data = whole.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="."):
            read_tensors(path)


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_a_damaged_file_is_refused_or_read_and_nothing_else(
    tmp_path: Path, torch_names: Any, form: str
) -> None:
    whole, path = tmp_path / "whole.pth", tmp_path / "net.pth"
    _write(whole, _table(torch_names), STORAGES, form)
    data, rng, refused = whole.read_bytes(), np.random.default_rng(0), 0
    for _ in range(500):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(len(data), size=2)] = rng.integers(256, size=2)
        path.write_bytes(damaged.tobytes())
        try:
            read_tensors(path)
        except (ValueError, OSError):
            refused += 1
    assert 100 < refused < 500


@pytest.mark.parametrize("value", [3, [1, 2], {}, {"a": 1}])
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "net.pth"
    for form in ("zip", "stream"):
        _write(path, value, {}, form)
        with pytest.raises(ValueError, match="it holds"):
            read_tensors(path)
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(ValueError, match=r"torch|cut off|Ran out"):
        read_tensors(path)
