"""kill -9 of the camera program and of the session: each survives the other, and so does the page.

That of a browser is in ``server/test_page.py``, that of a recording in ``test_recorder.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
import pytest

from cellseg.errors import RingError
from cellseg.live.ring import RingReader, layout
from cellseg.live.sources.recording import RecordingSource
from tests.bundles import make_bundle
from tests.fakes import nuclei_picture

pytest.importorskip("aiohttp", reason="the live extra is not installed")
pytestmark = pytest.mark.skipif(
    not Path("/dev/shm").is_dir(), reason="no POSIX shared memory at /dev/shm"
)

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CAMERA = """
import sys, time
import numpy as np
from cellseg.live.ring import RingWriter

with RingWriter(sys.argv[1], 4, 64 * 64 * 3) as ring:
    while True:
        ring.publish(np.full((64, 64, 3), 90, np.uint8))
        time.sleep(0.01)
"""


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"cellseg-kill-{os.getpid()}-{time.monotonic_ns()}"
    yield chosen
    (Path("/dev/shm") / chosen).unlink(missing_ok=True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return what starts a program; it is killed at the end."""
    with ExitStack() as stack:

        def started(*words: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *words],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                )
            )
            stack.callback(process.kill)
            return process

        yield started


class Session:
    """``cellseg-cli live`` in a process of its own, asked through its page."""

    def __init__(self, start: Callable[..., Any], name: str, model: Path, port: int = 0) -> None:
        words = ["live", f"ring:{name}", "--headless", "--page", "--port", str(port)]
        words += ["--model", str(model), "--engine", "onnxruntime"]
        self.process = start("-m", "cellseg", *words)
        line = next(line for line in self.process.stderr if line.startswith("page: "))
        self.page_url = line.split()[1]
        self._url = self.page_url.replace("/?", "/api/state?")

    def done(self) -> int:
        with urllib.request.urlopen(self._url, timeout=10) as got:
            return int(json.load(got)["done"])

    def wait_for_more(self, than: int) -> int:
        return wait_for(lambda: self.done(), lambda done: done > than)


def wait_for(ask: Callable[[], int], is_enough: Callable[[int], bool]) -> int:
    until_s = time.monotonic() + 90
    while not is_enough(value := ask()):
        assert time.monotonic() < until_s, value
        time.sleep(0.02)
    return value


def wait_for_frames(name: str, session: int | None = None) -> RingReader:
    """Wait for a camera's frames; of another one than before, where that is given."""
    until_s = time.monotonic() + 90
    while time.monotonic() < until_s:
        try:
            reader = RingReader(name)
        except RingError:
            pass
        else:
            if reader.session != session and reader.published:
                return reader
        time.sleep(0.01)
    raise AssertionError("no frame came")


def let_time_pass(name: str) -> None:
    """Make the dead writer's last sign of life old, which else takes two seconds."""
    offset = layout.HEADER.fields["heartbeat_ns"][1]  # type: ignore[index]
    with (Path("/dev/shm") / name).open("r+b") as file:
        file.seek(offset)
        file.write((1).to_bytes(8, "little"))


def test_the_session_survives_its_camera_program(
    start: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    camera = start("-c", CAMERA, name)
    first = wait_for_frames(name)
    session = Session(start, name, make_bundle(tmp_path / "tiny.cellseg").path)
    session.wait_for_more(0)
    camera.kill()
    camera.wait()
    let_time_pass(name)
    assert session.process.poll() is None
    start("-c", CAMERA, name)
    wait_for_frames(name, first.session)
    before = session.done()
    session.wait_for_more(before)


def test_the_camera_program_survives_the_session_and_the_next_session_goes_on(
    start: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    model = make_bundle(tmp_path / "tiny.cellseg").path
    camera = start("-c", CAMERA, name)
    ring = wait_for_frames(name)
    session = Session(start, name, model)
    session.wait_for_more(0)
    session.process.kill()
    session.process.wait()
    seen = ring.published
    wait_for(lambda: ring.published, lambda published: published > seen + 5)
    assert camera.poll() is None
    Session(start, name, model).wait_for_more(0)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_page_finds_the_session_that_follows_a_killed_one(
    start: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    model = make_bundle(tmp_path / "tiny.cellseg").path
    start("-c", CAMERA, name)
    wait_for_frames(name)
    session = Session(start, name, model)
    port = int(session.page_url.split(":")[2].partition("/")[0])
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(session.page_url)
        link = playwright.expect(page.locator("#link"))
        link.to_have_text("running", timeout=30_000)
        session.process.kill()
        session.process.wait()
        link.to_have_text("reconnecting", timeout=30_000)
        Session(start, name, model, port)
        link.to_have_text("running", timeout=30_000)
        shown = page.locator("#done")
        assert wait_for(lambda: int(shown.text_content() or 0), lambda done: done > 0) > 0
        browser.close()


def test_a_scan_that_was_killed_keeps_its_frames_and_their_places(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    slide, model = tmp_path / "slide.png", make_bundle(tmp_path / "tiny.cellseg").path
    cv2.imwrite(str(slide), nuclei_picture(300, 300))
    words = ["live", f"slide:{slide}", "--frame-size", "128", "--rate", "50", "--frames", "5000"]
    words += ["-o", str(tmp_path / "out"), "--mpp", "0.5", "--headless"]
    session = start("-m", "cellseg", *words, "--model", str(model), "--engine", "onnxruntime")
    folder = tmp_path / "out" / "slide"
    lines = folder / ".scan-frames" / "frames.jsonl"
    wait_for(lambda: lines.read_text().count("\n") if lines.exists() else 0, lambda n: n >= 5)
    session.kill()
    session.wait()
    kept = RecordingSource(folder)
    frames = list(kept.frames(Event()))
    assert len(frames) >= 5
    assert (kept.passed_over, kept.mpp) == (0, 0.5)
    for frame in frames:
        x_um, y_um, _ = frame.meta.stage_xyz_um or (-1, -1, -1)
        x, y = round(x_um / 0.5), round(y_um / 0.5)
        np.testing.assert_array_equal(frame.array, nuclei_picture(300, 300)[y:, x:][:128, :128])
