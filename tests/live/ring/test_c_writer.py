"""The C header and the C example against the Python reader, compiled here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from cellseg.errors import RingError
from cellseg.live.ring import RingReader, RingWriter, include_dir, layout
from tests.fakes import IdentityEngine, fake_bundle

ROOT = Path(__file__).resolve().parents[3]
GCC, GXX = shutil.which("gcc"), shutil.which("g++")
STRICT = ["-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
pytestmark = [
    pytest.mark.skipif(GCC is None, reason="no C compiler (gcc) here"),
    pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no POSIX shared memory at /dev/shm"),
]
SIDE = 128


def build(source: Path, target: Path, compiler: str | None = GCC, standard: str = "c11") -> Path:
    command = [str(compiler), f"-std={standard}", *STRICT, "-I", str(include_dir())]
    subprocess.run([*command, str(source), "-o", str(target), "-lrt", "-lm"], check=True)
    return target


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = ROOT / "examples" / "ring_writer.c"
    return build(source, tmp_path_factory.mktemp("c") / "ring_writer")


@pytest.fixture
def name() -> str:
    return f"cellseg-c-{os.getpid()}-{time.monotonic_ns()}"


def start(camera: Path, name: str, *words: object) -> subprocess.Popen[str]:
    command = [str(camera), name, str(SIDE), str(SIDE), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def reader_of(
    name: str, process: subprocess.Popen[str], frames: int = 1, dead: int | None = None
) -> RingReader:
    """Wait for the camera's frames; those of a dead session under its name do not count."""
    while process.poll() is None:
        try:
            reader = RingReader(name)
        except RingError:
            time.sleep(0.002)
            continue
        if reader.published >= frames and reader.session != dead:
            return reader
    raise AssertionError("the camera has ended before its frames were there")


def test_frames_of_a_c_program_are_segmented(camera: Path, name: str, tmp_path: Path) -> None:
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.segmenter import Segmenter

    def open_engine(bundle: object, options: object, tile_hw: tuple[int, int]) -> IdentityEngine:
        return IdentityEngine(tile_hw)

    with start(camera, name, 200, 3) as process:
        frame = reader_of(name, process, frames=3).frame(2)
        assert frame is not None
        with Segmenter(fake_bundle(tmp_path / "fake.cellseg"), InferOptions(), open_engine) as run:
            found = run(frame.array)
        assert frame.is_intact()
        y, x = np.ogrid[:SIDE, :SIDE]
        discs = ((x - 2) % 64 - 32) ** 2 + (y % 64 - 32) ** 2 < 100
        assert np.array_equal(found.classes, discs)
        assert frame.meta.frame_id == 2
        assert frame.meta.channel == "bright-field"
        assert frame.meta.stage_xyz_um == (1.0, 0.0, 0.0)
        assert frame.mpp == 0.5
        assert 0 < time.monotonic_ns() - frame.meta.exposure_start_ns < 60e9  # the same clock
        assert process.communicate()[0] == "3 frames\n"


def test_a_file_of_pixels_comes_through_unchanged(camera: Path, name: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    (tmp_path / "frame.rgb").write_bytes(pixels.tobytes())
    with start(camera, name, 500, 1, tmp_path / "frame.rgb") as process:
        frame = reader_of(name, process).newest()
        assert frame is not None
        assert np.array_equal(frame.array, pixels)


def test_a_camera_that_ends_says_so_and_takes_its_name_away(camera: Path, name: str) -> None:
    with start(camera, name, 500, 10_000) as process:
        reader = reader_of(name, process)
        assert reader.writer == "alive"
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert reader.writer == "closed"
    assert not (Path("/dev/shm") / name).exists()


def test_a_camera_that_is_killed_is_noticed_and_its_successor_takes_over(
    camera: Path, name: str
) -> None:
    with start(camera, name, 500, 10_000) as process:
        reader = RingReader(reader_of(name, process).name, dead_after_s=0.05)
        process.kill()
        process.wait()
    while reader.writer != "dead":
        time.sleep(0.01)
    assert reader.frame(reader.published - 1) is not None  # what it published can still be read
    poke_heartbeat(name)
    with start(camera, name, 500, 2) as successor:
        again = reader_of(name, successor, frames=2, dead=reader.session)
        assert reader.is_replaced()
        assert again.published == 2


def poke_heartbeat(name: str) -> None:
    """Make the dead writer's last sign of life older than the 2 s a successor waits."""
    with (Path("/dev/shm") / name).open("r+b") as file:
        file.seek(layout.HEADER.fields["heartbeat_ns"][1])  # type: ignore[index]
        file.write((1).to_bytes(8, "little"))


def test_a_second_camera_of_the_same_name_is_refused(camera: Path, name: str) -> None:
    with RingWriter(name, 2, 10):
        command = [str(camera), name, "8", "8", "10", "1"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "busy" in answer.stderr


def test_offsets_of_the_c_header_are_those_of_the_python_layout(tmp_path: Path) -> None:
    own_name = {"strides": "stride_y"}
    lines = [
        f'printf("%zu\\n", offsetof(cellseg_ring_{kind}, {own_name.get(field, field)}));'
        for kind, dtype in (("header", layout.HEADER), ("slot", layout.SLOT))
        for field in dtype.names or ()
    ]
    head = '#define _POSIX_C_SOURCE 200809L\n#include "cellseg_ring.h"\n'
    (tmp_path / "offsets.c").write_text(f"{head}int main(void) {{ {' '.join(lines)} return 0; }}\n")
    printed = subprocess.run(
        [str(build(tmp_path / "offsets.c", tmp_path / "offsets"))],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [
        dtype.fields[field][1]  # type: ignore[index]
        for dtype in (layout.HEADER, layout.SLOT)
        for field in dtype.names or ()
    ]
    assert [int(line) for line in printed.stdout.split()] == expected


@pytest.mark.skipif(GXX is None, reason="no C++ compiler (g++) here")
@pytest.mark.parametrize("standard", ["c++11", "c++17"])
def test_the_header_serves_cpp_too(tmp_path: Path, name: str, standard: str) -> None:
    (tmp_path / "camera.cc").write_text(
        '#include "cellseg_ring.h"\n'
        "int main(int, char **words) {\n"
        "    cellseg_ring ring;\n"
        "    if (cellseg_ring_create(&ring, words[1], 2, 4)) return 1;\n"
        "    cellseg_ring_slot *slot = cellseg_ring_begin(&ring);\n"
        "    memset(cellseg_ring_pixels(slot), 5, 4);\n"
        "    cellseg_ring_set_image(slot, CELLSEG_RING_U8, 2, 2, 1);\n"
        "    cellseg_ring_publish(&ring);\n"
        "    return 0;\n"  # without a word, as after a crash
        "}\n"
    )
    program = build(tmp_path / "camera.cc", tmp_path / "camera", GXX, standard)
    subprocess.run([str(program), name], check=True)
    frame = RingReader(name).newest()
    (Path("/dev/shm") / name).unlink()
    assert frame is not None
    assert frame.array.tolist() == [[5, 5], [5, 5]]
