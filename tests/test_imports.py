"""What may be imported by what, looked at in fresh interpreters."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import cellseg
import cellseg.runtime

FORBIDDEN = ("tensorflow", "keras", "onnx", "skimage", "matplotlib", "torch", "jax")
HEAVY = ("numpy", "numba", "cv2", "tifffile", "imagecodecs", "pydantic", "onnxruntime", "openvino")


def loaded_after(code: str, *names: str) -> set[str]:
    """Which of the top-level packages a fresh interpreter has loaded after running the code."""
    ask = f"import sys; print(*sorted({set(names)!r} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ask}"], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.splitlines()[-1].split())


def runtime_modules() -> list[str]:
    found = pkgutil.walk_packages(cellseg.runtime.__path__, "cellseg.runtime.")
    return [module.name for module in found]


def test_no_module_of_the_runtime_imports_a_training_framework() -> None:
    code = "import " + ", ".join(["cellseg", "cellseg.cli", *runtime_modules()])
    assert loaded_after(code, *FORBIDDEN, "cellseg.train", "cellseg.export") == set()


@pytest.mark.parametrize("code", ["import cellseg", "import cellseg.cli"])
def test_a_bare_import_loads_nothing_heavy(code: str) -> None:
    assert loaded_after(code, *FORBIDDEN, *HEAVY) == set()


def imported_by(source: Path) -> set[str]:
    """Modules that a file imports, late imports included."""
    nodes = list(ast.walk(ast.parse(source.read_text(encoding="utf-8"))))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    parts = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    # `from cellseg import train` imports a module, too.
    named = {f"{node.module}.{name.name}" for node in parts for name in node.names}
    return plain | named | {str(node.module) for node in parts}


@pytest.mark.parametrize(
    ("part", "others"),
    [
        ("runtime", ("train", "export", "layers", "bench", "cli", "commands", "console", "live")),
        ("live", ("train", "export", "layers", "bench", "cli", "commands", "console")),
        ("layers", ("runtime", "train", "export", "bench", "cli", "commands")),
        ("train", ("export", "bench", "cli", "commands")),
        ("export", ("train", "bench", "cli", "commands")),
        ("bench", ("train", "export", "cli", "commands")),
        ("data", ("train", "export", "bench", "cli", "commands", "console")),
    ],
)
def test_imports_go_one_way_even_where_they_are_late(part: str, others: tuple[str, ...]) -> None:
    forbidden = {f"cellseg.{other}" for other in others}
    if part in (
        "runtime",
        "live",
    ):  # numba imports scipy where it is installed, so only the source can tell
        forbidden |= {*FORBIDDEN, "scipy"}
    for source in (Path(cellseg.__path__[0]) / part).rglob("*.py"):
        wrong = {
            name
            for name in imported_by(source)
            if any(name == bad or name.startswith(f"{bad}.") for bad in forbidden)
        }
        assert wrong == set(), source


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def run_by(source: Path) -> set[str]:
    """Modules that a file imports when it runs, early or late: all but those for annotations."""
    body = ast.parse(source.read_text(encoding="utf-8")).body
    nodes = [node for part in body if not is_for_types(part) for node in ast.walk(part)]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    named = {f"{node.module}.{name.name}" for node in imports for name in node.names}
    return named | {str(node.module) for node in imports}


def test_no_modules_of_the_runtime_import_each_other_in_a_circle() -> None:
    root = Path(cellseg.__path__[0]).parent
    files = {name: root.joinpath(*name.split(".")) for name in runtime_modules()}
    imports = {
        name: run_by(path.with_suffix(".py")) & files.keys()
        for name, path in files.items()
        if not path.is_dir()
    }
    assert len(imports) > 50
    TopologicalSorter(imports).prepare()  # raises CycleError, naming the circle


FLOORS = {
    "runtime": (
        ("machine", "slides"),
        ("kernels",),
        ("bundles",),
        ("engines", "view"),
        ("tiles",),
        ("shapes", "store"),
        ("tissue", "pictures"),
        ("jobs",),
        ("cells",),
        ("memory", "writers"),
        ("run", "report", "evaluation"),
        ("verification",),
    ),
    "train": (
        ("families", "kernels", "progress"),
        ("sections",),
        ("augment",),
        ("images",),
        ("losses", "schedule"),
        ("objectives",),
        ("seed",),
        ("recipes", "networks"),
        ("tasks",),
        ("scores", "loop"),
    ),
    "export": (
        ("onnx_graph",),
        ("passes",),
        ("from_keras", "from_onnx", "precisions", "checks"),
        ("targets",),
        ("options",),
        ("sources", "images"),
        ("judging",),
    ),
    "data": (("form",), ("annotations", "splits", "stats"), ("smear",)),
    "bench": (("options", "record", "slides"), ("meters",), ("reports",), ("rounds",)),
    "live": (
        ("frame", "latency", "listeners", "json_lines", "pools", "calm"),
        ("frame_view", "frame_cells", "stream_intensities"),
        ("ring", "result", "counters", "frame_segmenter"),
        ("events", "painter", "snapshot", "tally", "intake"),
        ("session", "mosaic", "service"),
        ("server", "sources", "recorder"),
        ("feeder",),
    ),
}
"""Packages of each part and modules that they use, the ground first; other modules lie above."""


@pytest.mark.parametrize("part", FLOORS)
def test_packages_stand_on_those_below_even_in_annotations(part: str) -> None:
    folder = Path(cellseg.__path__[0]) / part
    floor_of = {name: floor for floor, names in enumerate(FLOORS[part]) for name in names}
    assert {path.parent.name for path in folder.glob("*/__init__.py")} <= floor_of.keys()
    assert floor_of.keys() <= {path.stem for path in folder.iterdir()}
    for name, floor in floor_of.items():
        below = {other for other in floor_of if floor_of[other] < floor} | {name}
        for source in (*folder.glob(f"{name}.py"), *folder.glob(f"{name}/**/*.py")):
            used = {
                module.split(".")[2]
                for module in imported_by(source)
                if module.startswith(f"cellseg.{part}.")
            }
            assert used <= below, source


def test_help_loads_nothing_heavy() -> None:
    code = (
        "from typer.testing import CliRunner\n"
        "from cellseg.cli import app\n"
        "assert CliRunner().invoke(app, ['infer', '--help']).exit_code == 0"
    )
    # typer itself reads values through pydantic in newer versions.
    assert loaded_after(code, *FORBIDDEN, *HEAVY) <= {"pydantic"}


def test_the_doctor_comes_to_where_numpy_does_not_load() -> None:
    code = "import cellseg.runtime.doctor; from cellseg.runtime.engines import ENGINES"
    assert loaded_after(code, *FORBIDDEN, *HEAVY) == set()


@pytest.mark.parametrize("name", cellseg.__all__)
def test_every_exported_member_is_there(name: str) -> None:
    assert getattr(cellseg, name) is not None


def test_exported_members_are_listed_and_no_others() -> None:
    assert dir(cellseg) == sorted(cellseg.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
        _ = cellseg.segmnt
