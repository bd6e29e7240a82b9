"""What this machine can run, and the line that mends what it cannot.

``examine()`` looks (it imports each engine, which is the only honest test), the dataclasses hold
what it saw, ``format_examination`` says it in words.
"""

from __future__ import annotations

import importlib
import os
import shutil
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cellseg.runtime.doctor_cuda import cuda_mismatches
from cellseg.runtime.engines.table import reinstall_line, version_of
from cellseg.runtime.engines.untold import untold
from cellseg.runtime.machine.facts import Machine, this_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cellseg.runtime.engines import EngineEntry

__all__ = ["Disk", "Examination", "Part", "Problem", "examine", "format_examination"]

_LOW_DISK_MB = 2048


@dataclass(frozen=True)
class Part:
    """An engine or library that may be there."""

    name: str
    """Name as ``--engine`` takes it, or the library's name."""
    version: str | None
    """Installed version; None where it is not installed."""
    works: bool
    """Whether it could be imported."""
    detail: str
    """What it offers here, or why it does not work."""
    fix: str | None
    """Command that installs or mends it; None where nothing is amiss."""
    needed: bool = False
    """Whether no run goes without it."""


@dataclass(frozen=True)
class Disk:
    """A folder that is written to."""

    path: str
    """The folder."""
    free_mb: int
    """Free space, MiB."""
    used_mb: int
    """Size of what lies in it, MiB."""
    writable: bool
    """Whether this user may write there."""


@dataclass(frozen=True)
class Problem:
    """A known mismatch and how to mend it."""

    what: str
    """What does not fit, in one sentence."""
    fix: str
    """What to do about it."""


@dataclass(frozen=True)
class Examination:
    """Everything that was looked at."""

    cellseg: str
    """Version of this package."""
    machine: Machine
    """Processor, cores, memory."""
    engines: tuple[Part, ...]
    """Inference engines, installed or not."""
    libraries: tuple[Part, ...]
    """Slide readers and the parts that only some commands need."""
    cache: Disk
    """Where the choice of engine is remembered."""
    problems: tuple[Problem, ...]
    """Known mismatches found here."""

    @property
    def broken(self) -> tuple[str, ...]:
        """Libraries that every run needs and that do not work."""
        return tuple(part.name for part in self.libraries if part.needed and not part.works)

    @property
    def has_engine(self) -> bool:
        """Whether at least one engine works."""
        return any(engine.works for engine in self.engines)

    @property
    def can_infer(self) -> bool:
        """Whether an engine works, and every library that a run needs."""
        return self.has_engine and not self.broken

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values, for JSON."""
        return {"can_infer": self.can_infer, "broken": list(self.broken), **asdict(self)}


def examine() -> Examination:
    """Look at machine, engines, libraries and caches."""
    from cellseg import __version__
    from cellseg.runtime.engines import ENGINES
    from cellseg.runtime.machine.cache_folder import cache_folder

    machine = this_machine()
    return Examination(
        cellseg=__version__,
        machine=machine,
        engines=tuple(_engine(name, entry) for name, entry in ENGINES.items()),
        libraries=tuple(_libraries()),
        cache=_disk(cache_folder()),
        problems=tuple(_problems(machine)),
    )


def format_examination(seen: Examination) -> str:
    """Return the examination as lines for people."""
    blocks = [
        [f"cellseg {seen.cellseg} on Python {seen.machine.python}"],
        _machine_lines(seen.machine),
        ["engines", *_part_lines(seen.engines)],
        ["libraries", *_part_lines(seen.libraries)],
        _cache_lines(seen.cache),
        _problem_lines(seen),
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


# --- engines and libraries -----------------------------------------------------------------------


class _Lines(NamedTuple):
    """Commands that bring a package."""

    install: str
    """Where it is not there."""
    mend: str
    """Where it is there and does not load."""
    update: str
    """Where it does not fit the NumPy that is there."""


def _nothing_more(_module: Any) -> str:
    return ""


def _onnxruntime_offers(module: Any) -> str:
    names = [provider.removesuffix("ExecutionProvider") for provider in _providers(module)]
    return "providers: " + ", ".join(names)


def _providers(module: Any) -> list[str]:
    # Azure is compiled into every wheel and calls a remote service: it runs nothing here.
    return [name for name in module.get_available_providers() if not name.startswith("Azure")]


def _openvino_offers(module: Any) -> str:
    # Only the device that the engine uses: looking for GPUs loads every OpenCL driver there is, and
    # one that brings an LLVM of its own (pocl) brings the process down if TensorFlow is in it.
    offered = module.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found = [name.lower() for name in ("FP32", "FP16", "BF16", "INT8") if name in offered]
    return f"devices: CPU ({', '.join(found)})"


def _tensorrt_offers(module: Any) -> str:
    from cellseg.runtime.engines.tensorrt_api import TensorRt

    found = TensorRt(module)
    others = ", ".join(found.capabilities())
    return found.name + (f"; builds for compute capabilities {others}" if others else "")


def _opencv_offers(module: Any) -> str:
    # Removing one of its twins leaves a folder that is imported as an empty module: call it.
    return f"threads: {module.getNumThreads()}"


def _openslide_offers(module: Any) -> str:
    return f"OpenSlide library {module.__library_version__}"


_OFFERS: dict[str, Callable[[Any], str]] = {
    "onnxruntime": _onnxruntime_offers,
    "openvino": _openvino_offers,
    "tensorrt": _tensorrt_offers,
}
_NEEDED: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("numpy", "numpy", _nothing_more),
    ("tifffile", "tifffile", _nothing_more),
    ("imagecodecs", "imagecodecs", _nothing_more),
    ("numba", "numba", _nothing_more),
    ("opencv", "cv2", _opencv_offers),
    ("pydantic", "pydantic", _nothing_more),
)
_OPTIONAL = (
    ("pyarrow", "parquet"),
    ("zarr", "zarr"),
    ("highdicom", "dicom"),
    ("keras", "train"),
    ("tensorflow", "train"),
    ("onnx", "export"),
)
_GPU_FIX = "with an NVIDIA GPU, its driver: 'nvidia-smi' must list the GPU; without one, nothing"
_WHEELS = {
    "cv2": ("opencv-python-headless",),
    "numba": ("numba", "llvmlite"),
    "openslide": ("openslide-python", "openslide-bin"),
}


def _engine(name: str, entry: EngineEntry) -> Part:
    lines = _Lines(f"pip install {entry.pip}", entry.reinstall, _update_line(entry.pip))
    names = (entry.import_name, *entry.also)
    module = next((known for known in names if find_spec(known) is not None), entry.import_name)
    offers = _OFFERS.get(name, _nothing_more)
    part = _tried(name, module, entry.installed_version, lines, offers)
    lacking = entry.obstacle() if part.works else None
    return part if lacking is None else replace(part, works=False, detail=lacking, fix=_GPU_FIX)


def _libraries() -> Iterator[Part]:
    for name, module, offers in _NEEDED:
        yield replace(_part(name, module, None, offers), needed=True)
    yield _part("openslide", "openslide", "wsi", _openslide_offers)
    yield from (_looked_up(*it) for it in _OPTIONAL)


def _part(name: str, module: str, extra: str | None, offers: Callable[[Any], str]) -> Part:
    wheels = _wheels(module)
    mend = reinstall_line(*wheels)
    update = mend if module == "numpy" else _update_line(wheels[0])
    lines = _Lines(_install_line(wheels, extra), mend, update)
    return _tried(name, module, version_of(wheels[0]), lines, offers)


def _tried(
    name: str, module: str, version: str | None, lines: _Lines, offers: Callable[[Any], str]
) -> Part:
    if find_spec(module) is None:
        # Of files that are gone pip knows nothing: it takes the package for installed.
        fix = lines.install if version is None else lines.mend
        return Part(name, version, works=False, detail="not installed", fix=fix)
    try:
        with untold():
            found = importlib.import_module(module)
        return Part(name, version, True, offers(found), None)
    except Exception as error:  # a broken native library may raise anything; that is the finding
        fix = lines.update if "numpy" in str(error).lower() else lines.mend
        return Part(name, version, False, f"does not load: {_first_line(error)}", fix)


def _looked_up(name: str, extra: str) -> Part:
    """Say whether a library is there without importing it: TensorFlow takes many seconds."""
    if find_spec(name) is None:
        return Part(name, None, False, f"not installed ({extra})", _install_line((name,), extra))
    return Part(name, version_of(name), True, f"({extra}; not tried)", None)


def _install_line(wheels: tuple[str, ...], extra: str | None) -> str:
    return f"pip install 'cellseg[{extra}]'" if extra else f"pip install {' '.join(wheels)}"


def _update_line(wheel: str) -> str:
    """Return the command by which pip looks at what a package needs, too, and makes it fit."""
    return f"pip install --upgrade {wheel}"


def _wheels(module: str) -> tuple[str, ...]:
    """Distributions that hold a module; the first has its version."""
    return _WHEELS.get(module, (module,))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# --- caches --------------------------------------------------------------------------------------


def _disk(path: Path) -> Disk:
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    files = path.rglob("*") if path.is_dir() else ()
    used = sum(file.stat().st_size for file in files if file.is_file())
    free = shutil.disk_usage(existing).free
    can_write = existing.is_dir() and os.access(existing, os.W_OK)
    return Disk(str(path), free // 2**20, used // 2**20, can_write)


# --- known mismatches ----------------------------------------------------------------------------


def _problems(machine: Machine) -> Iterator[Problem]:
    yield from _twin_packages()
    yield from (Problem(*found) for found in cuda_mismatches(version_of))
    yield from _slow_processor(machine)
    yield from _narrow_environment(machine)
    yield from _missing_backend()
    yield from _full_disk()


def _twin_packages() -> Iterator[Problem]:
    """Find packages that install the same module over each other."""
    for keep, other in (
        ("opencv-python-headless", "opencv-python"),
        ("opencv-python-headless", "opencv-contrib-python"),
        ("onnxruntime", "onnxruntime-gpu"),
        ("onnxruntime", "onnxruntime-openvino"),
        ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
        ("tensorrt-cu13", "tensorrt-cu12"),
    ):
        if version_of(keep) and version_of(other):
            yield Problem(
                f"{keep} and {other} are both installed and overwrite each other's files.",
                f"pip uninstall -y {keep} {other} && pip install the one you want",
            )


def _slow_processor(machine: Machine) -> Iterator[Problem]:
    is_x86 = machine.architecture in ("x86_64", "AMD64")
    if is_x86 and machine.cpu_flags is not None and "avx2" not in machine.cpu_flags:
        yield Problem(
            "This processor has no AVX2, so engines fall back to slow code.",
            "use --precision int8, or another machine",
        )


def _narrow_environment(machine: Machine) -> Iterator[Problem]:
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) < machine.cores:
            yield Problem(
                f"{name}={value} keeps libraries to fewer than the {machine.cores} cores here.",
                f"unset {name}",
            )
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        yield Problem("NUMBA_DISABLE_JIT is set: kernels run in plain Python.", "unset it")


def _missing_backend() -> Iterator[Problem]:
    """Find a KERAS_BACKEND that training would stumble over."""
    backend = os.environ.get("KERAS_BACKEND", "")
    if backend and ("." in backend or find_spec(backend) is None):
        yield Problem(
            f"KERAS_BACKEND={backend} names a backend that is not installed.",
            f"pip install {backend}, or unset KERAS_BACKEND",
        )


def _full_disk() -> Iterator[Problem]:
    try:
        folder = Path.cwd()
    except FileNotFoundError:
        yield Problem(
            "The working folder, where results go by default, was removed.", "cd to another"
        )
        return
    here = shutil.disk_usage(folder).free // 2**20
    if here < _LOW_DISK_MB:
        yield Problem(
            f"Only {here} MiB are free in {folder}, where results go by default.",
            "make room, or write elsewhere with -o",
        )


# --- words ---------------------------------------------------------------------------------------


def _machine_lines(machine: Machine) -> list[str]:
    flags = "unknown" if machine.cpu_flags is None else ", ".join(machine.cpu_flags) or "none"
    memory = "unknown" if machine.memory_mb is None else f"{machine.memory_mb / 1024:.1f} GiB"
    return [
        f"system      {machine.system} ({machine.architecture})",
        f"processor   {machine.cpu}, {machine.cores} usable cores",
        f"vector sets {flags}",
        f"memory      {memory}",
    ]


def _part_lines(parts: tuple[Part, ...]) -> list[str]:
    lines = []
    for part in parts:
        mark = "ok  " if part.works else "no  "
        lines.append(f"  {mark}{part.name:<12} {part.version or '-':<12} {part.detail}".rstrip())
        if part.fix:
            lines.append(f"      {'':<12} to mend: {part.fix}")
    return lines


def _cache_lines(cache: Disk) -> list[str]:
    state = "writable" if cache.writable else "NOT writable"
    size = f"{cache.used_mb} MiB used, {cache.free_mb / 1024:.1f} GiB free"
    return [f"cache       {cache.path} ({state}, {size})"]


def _problem_lines(seen: Examination) -> list[str]:
    lines = []
    if seen.broken:
        lines.append(f"no run goes without {', '.join(seen.broken)}: mend what is said above")
    if not seen.has_engine:
        lines.append("no engine works: install one")
    if seen.problems:
        lines.append("known mismatches")
    for problem in seen.problems:
        lines += [f"  {problem.what}", f"      to mend: {problem.fix}"]
    return lines or ["no known mismatches"]
