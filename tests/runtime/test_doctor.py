from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from cellseg.runtime import doctor
from cellseg.runtime.doctor import Examination, Part, examine, format_examination
from cellseg.runtime.engines import ENGINES, table
from cellseg.runtime.engines.table import EngineEntry, Needs

ABSENT = EngineEntry(
    "none", "None", "no_such_package", "no-such-package", {"fp32": Needs("a", "b")}
)


def test_every_engine_of_the_table_is_looked_at() -> None:
    assert [engine.name for engine in examine().engines] == list(ENGINES)


def test_an_engine_that_is_missing_comes_with_the_line_that_installs_it() -> None:
    part = doctor._engine("absent", ABSENT)
    assert not part.works
    assert part.fix == "pip install no-such-package"


def test_an_engine_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file\nmore lines")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    part = doctor._engine("json", dataclasses.replace(ABSENT, import_name="json"))
    assert part.detail == "does not load: libgomp.so.1: cannot open shared object file"
    assert part.fix == "pip install --force-reinstall --no-deps no-such-package"


@pytest.mark.parametrize(
    ("module", "extra", "wheels"),
    [
        ("numba", None, ["numba", "llvmlite"]),
        ("cv2", None, ["opencv-python-headless"]),
        ("openslide", "wsi", ["openslide-python", "openslide-bin"]),
    ],
)
def test_a_library_that_is_there_and_does_not_load_is_laid_anew_in_its_version(
    monkeypatch: pytest.MonkeyPatch, module: str, extra: str | None, wheels: list[str]
) -> None:
    def broken(name: str) -> None:
        raise ImportError("a library is gone")

    monkeypatch.setattr(doctor, "find_spec", lambda name: name)
    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    monkeypatch.setattr(table, "version", lambda name: "1.2")
    part = doctor._part(module, module, extra, lambda module: "")
    pinned = " ".join(f"{name}==1.2" for name in wheels)
    assert part.fix == f"pip install --force-reinstall --no-deps {pinned}"


@pytest.mark.parametrize(
    ("version", "fix"),
    [(None, "install"), ("1.2", "--force-reinstall")],
    ids=["not installed", "files gone"],
)
def test_a_module_that_is_not_found_is_laid_anew_only_if_pip_takes_it_for_installed(
    version: str | None, fix: str
) -> None:
    lines = doctor._Lines("install", "--force-reinstall", "--upgrade")
    assert doctor._tried("a", "no_such_package", version, lines, lambda module: "").fix == fix


def with_broken(monkeypatch: pytest.MonkeyPatch, module: str, why: str) -> Examination:
    """Examine a machine on which one module does not load."""
    whole = importlib.import_module

    def broken(name: str) -> object:
        if name == module:
            raise ImportError(why)
        return whole(name)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    return examine()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "numpy"),
        ("tifffile", "tifffile"),
        ("imagecodecs", "imagecodecs"),
        ("numba", "numba"),
        ("cv2", "opencv"),
        ("pydantic", "pydantic"),
    ],
)
def test_without_a_library_that_every_run_needs_nothing_can_be_inferred(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    seen = with_broken(monkeypatch, module, "libGL.so.1: cannot open shared object file")
    assert seen.broken == (name,)
    assert seen.as_dict()["can_infer"] is False
    assert seen.as_dict()["broken"] == [name]
    assert f"no run goes without {name}" in format_examination(seen)
    assert "no known mismatches" not in format_examination(seen)


def test_a_library_of_an_extra_that_does_not_load_stops_no_other_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = with_broken(monkeypatch, "openslide", "Couldn't locate OpenSlide dylib")
    assert seen.broken == ()
    assert not next(part for part in seen.libraries if part.name == "openslide").works


def test_a_library_that_does_not_fit_the_numpy_is_updated_with_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = with_broken(monkeypatch, "numba", "Numba needs NumPy 2.2 or less. Got NumPy 2.3.")
    numba = next(part for part in seen.libraries if part.name == "numba")
    assert numba.fix == "pip install --upgrade numba"


def test_numpy_itself_is_laid_anew_in_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = with_broken(monkeypatch, "numpy", "Error importing numpy")
    numpy = next(part for part in seen.libraries if part.name == "numpy")
    assert "--force-reinstall" in str(numpy.fix)


def test_an_opencv_of_which_a_folder_is_left_does_not_work() -> None:
    empty = doctor._part("opencv", "json", None, doctor._opencv_offers)
    assert "has no attribute" in empty.detail


def test_the_examination_is_json_as_it_is() -> None:
    seen = examine()
    assert json.loads(json.dumps(seen.as_dict()))["can_infer"] == seen.can_infer


def test_the_text_names_engines_fixes_and_cache() -> None:
    text = format_examination(examine())
    for expected in ("processor", "engines", *ENGINES, "cache"):
        assert expected in text


def test_without_a_working_engine_nothing_can_be_inferred() -> None:
    none = (Part("onnxruntime", None, False, "not installed", "pip install onnxruntime"),)
    seen = dataclasses.replace(examine(), engines=none, problems=())
    assert not seen.can_infer
    assert "no engine works" in format_examination(seen)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("OMP_NUM_THREADS", "0", "OMP_NUM_THREADS=0 keeps libraries"),
        ("NUMBA_DISABLE_JIT", "1", "kernels run in plain Python"),
        ("KERAS_BACKEND", "no_such_backend", "not installed"),
    ],
)
def test_a_setting_that_slows_or_breaks_is_a_problem_with_a_fix(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    assert any(expected in problem.what and problem.fix for problem in examine().problems)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the working folder")
def test_a_working_folder_that_was_removed_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert any("was removed" in problem.what for problem in examine().problems)


def test_a_processor_without_avx2_is_a_problem() -> None:
    old = dataclasses.replace(doctor.this_machine(), architecture="x86_64", cpu_flags=())
    assert "AVX2" in next(doctor._slow_processor(old)).what


def test_two_packages_of_one_module_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version_of", lambda name: "1.0")
    assert any("overwrite" in problem.what for problem in doctor._twin_packages())


def test_tensorflow_is_looked_up_and_not_imported() -> None:
    part = next(part for part in examine().libraries if part.name == "tensorflow")
    assert part.works == (find_spec("tensorflow") is not None)
