"""What damage in a JPEG stream is seen, and that sound streams pass."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from cellseg.runtime.slides.jpeg_check import jpeg_fault
from tests.fakes import nuclei_picture
from tests.slides import scene


def coded(image: NDArray[np.uint8], **options: object) -> bytes:
    return bytes(imagecodecs.jpeg_encode(image, **options))


@pytest.fixture
def sound() -> bytes:
    return coded(nuclei_picture(256, 256), level=90)


@pytest.mark.parametrize("level", [30, 75, 95])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"subsampling": (2, 2)}], ids=str)
@pytest.mark.parametrize("kind", ["scene", "nuclei", "blank", "black", "grey"])
def test_sound_streams_pass(kind: str, level: int, options: dict[str, object]) -> None:
    images = {
        "scene": scene(256, 256),
        "nuclei": nuclei_picture(256, 256),
        "blank": np.full((512, 512, 3), 240, np.uint8),
        "black": np.zeros((512, 512, 3), np.uint8),
        "grey": nuclei_picture(256, 256)[..., 0].copy(),
    }
    if kind == "grey":
        options = {key: value for key, value in options.items() if key != "subsampling"}
    data = coded(images[kind], level=level, **options)
    assert jpeg_fault(data) is None
    assert jpeg_fault(data + b"\0") is None


@pytest.mark.parametrize("lost", [1, 2, 100, 20_000])
def test_a_stream_cut_short_is_seen(sound: bytes, lost: int) -> None:
    fault = jpeg_fault(sound[:-lost])
    assert fault is not None
    assert "cut short" in fault


def test_a_hole_of_zeros_is_seen(sound: bytes) -> None:
    middle = len(sound) // 2
    assert "hole" in str(jpeg_fault(sound[:middle] + bytes(200) + sound[middle + 200 :]))


def test_bytes_of_something_else_are_seen(sound: bytes) -> None:
    noise, middle = np.random.default_rng(0), len(sound) // 2
    for _ in range(20):
        strange = noise.integers(0, 256, 4096, np.uint8).tobytes()
        assert jpeg_fault(sound[:middle] + strange + sound[middle + 4096 :]) is not None


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", bytes(50), b"\xff\xd8abc"])
def test_what_is_no_picture_is_seen(data: bytes) -> None:
    assert jpeg_fault(data) is not None


@pytest.mark.parametrize(("symbol", "is_fault"), [(0x00, False), (0x01, True)])
def test_zeros_may_be_blank_blocks_where_they_end_a_block(symbol: int, is_fault: bool) -> None:
    table = bytes([0x10, 1, *[0] * 15, symbol])
    tables = b"\xff\xd8\xff\xc4" + (len(table) + 2).to_bytes(2, "big") + table + b"\xff\xd9"
    frame, scan = b"\xff\xc0\x00\x02", b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    stream = b"\xff\xd8" + frame + scan + bytes(500) + b"\xff\xd9"
    assert (jpeg_fault(stream, tables) is not None) == is_fault
