"""Measure what `pip install cellseg` puts on a device: megabytes, by package.

    python bench/install_size.py

Wheels are unpacked into empty folders, for this machine's processor and for ARM boards, and then
compiled as pip would; nothing of them is run. Needs a package index.
"""

from __future__ import annotations

import compileall
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.extras import core_requirements  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "install-size.json"
PLATFORMS = {
    "x86_64": ("manylinux2014_x86_64", "manylinux_2_27_x86_64", "manylinux_2_28_x86_64"),
    "aarch64": ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"),
}
PYTHONS = ("3.10", "3.12")
LARGEST = 6


def installed_mb(machine: str, python: str) -> dict[str, float]:
    """Install the core for a machine into a folder; MB of all, and of the largest packages."""
    facts = {"platform_machine": machine, "sys_platform": "linux", "python_version": python}
    wanted = [
        f"{each.name}{each.specifier}"
        for each in core_requirements()
        if each.marker is None or each.marker.evaluate(facts)
    ]
    with tempfile.TemporaryDirectory() as name:
        target = Path(name)
        options = ["--quiet", "--ignore-installed", "--only-binary=:all:", "--no-compile"]
        options += ["--implementation=cp", f"--python-version={python}", f"--target={target}"]
        options += [f"--platform={platform}" for platform in PLATFORMS[machine]]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *wanted], check=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile",
             f"--target={target}", str(ROOT)], check=True,
        )  # fmt: skip
        compileall.compile_dir(target, quiet=2)
        sizes = {path.name: folder_mb(path) for path in target.iterdir()}
    largest = dict(sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST])
    return {"all": round(sum(sizes.values()), 1)} | largest


def folder_mb(path: Path) -> float:
    """Return the bytes of all files in a folder, in MB of a million."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def main() -> None:
    """Measure all four; keep them."""
    found = {
        f"{machine}, Python {python}": installed_mb(machine, python)
        for machine in PLATFORMS
        for python in PYTHONS
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
