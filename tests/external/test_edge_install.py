"""What a device installs: wheels alone, on ARM as well, and not much of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.extras import core_requirements

PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")
NO_INDEX = ("Could not fetch URL", "Failed to establish", "NewConnection")


def resolve(requirements: list[Requirement], python: str, folder: Path) -> dict[str, str]:
    """Let pip choose wheels for an ARM board; name of each, and its file."""
    report = folder / "report.json"
    options = ["--dry-run", "--ignore-installed", "--quiet", "--only-binary=:all:"]
    options += ["--implementation=cp", f"--python-version={python}", f"--target={folder / 'x'}"]
    options += [f"--platform={platform}" for platform in PLATFORMS]
    # The marker of this machine would be asked, so it is answered here for the other one.
    wanted = [f"{each.name}{each.specifier}" for each in requirements]
    command = [sys.executable, "-m", "pip", "install", *options, f"--report={report}", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode and any(text in done.stderr for text in NO_INDEX):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    entries = json.loads(report.read_text())["install"]
    return {each["metadata"]["name"]: each["download_info"]["url"] for each in entries}


@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_every_core_dependency_has_wheels_for_arm_boards(tmp_path: Path, python: str) -> None:
    facts = {
        "platform_machine": "aarch64",
        "sys_platform": "linux",
        "python_version": python,
    }
    wanted = [
        each for each in core_requirements() if each.marker is None or each.marker.evaluate(facts)
    ]
    found = resolve(wanted, python, tmp_path)
    assert {each.name.lower() for each in wanted} <= {name.lower() for name in found}
    assert all(url.endswith(".whl") for url in found.values())
    assert not {"tensorflow", "keras", "openvino"} & {name.lower() for name in found}
