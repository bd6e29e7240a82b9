"""What the C library does with freed memory, counted in page faults and resident bytes."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")

# A fresh process: what others have set and freed would be counted, too.
LOOK = """
import resource
import sys
from contextlib import nullcontext
from cellseg.runtime.machine.malloc import LARGE_BUFFERS, freed_memory_kept, return_freed_memory
from cellseg.runtime.memory.budget import resident_bytes

def faults_of_steps():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytearray(48 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "returned":
    return_freed_memory(LARGE_BUFFERS)
with freed_memory_kept() if sys.argv[1] == "kept" else nullcontext():
    bytearray(48 << 20)
    faults, held = faults_of_steps(), resident_bytes()
print(faults, held, resident_bytes(), faults_of_steps())
"""


def seen(how: str) -> list[int]:
    """Return faults and resident bytes in the context, then resident bytes and faults after it."""
    command = [sys.executable, "-c", LOOK, how]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    return [int(word) for word in done.stdout.split()]


def test_what_is_kept_is_not_fetched_again_and_is_returned_in_the_end() -> None:
    returned_faults, *_ = seen("returned")
    kept_faults, held, after, faults_after = seen("kept")
    assert returned_faults > 100
    assert kept_faults < returned_faults / 10
    assert held - after > 32 << 20
    assert faults_after > returned_faults / 2
