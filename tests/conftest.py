"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from cellseg.runtime.engines import bystanders

REPOSITORY = Path(__file__).resolve().parents[1]

# No test asserts a time: an example may take long where the machine has much else to do.
settings.register_profile("cellseg", deadline=None)
settings.load_profile("cellseg")

# A shell that starts the tests in the background has Ctrl-C ignored, and so would every program
# have that they start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Folder that holds pyproject.toml."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real annotated images and slides; skips the test where it is absent."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("CELLSEG_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set CELLSEG_SHARED_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's cache, and the user's cache out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        # Nor does it matter to them who else uses the machine.
        patch.setattr(bystanders, "_STAT", tmp_path_factory.mktemp("system") / "nothing")
        yield
