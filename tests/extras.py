"""What pyproject.toml asks for."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def core_requirements() -> list[Requirement]:
    """Return the dependencies of a bare install."""
    text = PYPROJECT.read_text(encoding="utf-8")  # no TOML reader in Python 3.10
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    lines = (line.strip().rstrip(",") for line in block[1].splitlines())
    return [Requirement(line.strip('"')) for line in lines if line.startswith('"')]
