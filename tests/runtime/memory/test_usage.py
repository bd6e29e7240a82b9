"""What an engine takes of memory is measured once, in small, where a budget is to be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines.select import Choice
from cellseg.runtime.memory import usage
from cellseg.runtime.memory.usage import expected_usage, measured_usage
from tests.fakes import IdentityEngine

if TYPE_CHECKING:
    from pathlib import Path

CHOICE = Choice("openvino", "int8", "model.int8.u8s8.onnx")
FIXED_BYTES, BYTES_PER_PX = 10**7, 100


@pytest.fixture
def nuclei(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bundle:
    """Forget what is known, here and on the disk."""
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(usage, "_KNOWN", {})
    return Bundle.open("nuclei")


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let an engine take so much for itself and so much a pixel; keep the sides of its tiles."""
    sides: list[int] = []

    def open_choice(_: Bundle, __: Choice, hw: tuple[int, int], *___: int, **____: int) -> Any:
        sides.append(hw[0])
        return IdentityEngine(hw)

    def try_engine(engine: Any, _: int) -> int:
        return FIXED_BYTES + BYTES_PER_PX * engine.tile_hw[0] * engine.tile_hw[1]

    monkeypatch.setattr(usage, "open_choice", open_choice)
    monkeypatch.setattr(usage, "try_engine", try_engine)
    return sides


def test_weights_and_pixels_are_told_apart(nuclei: Bundle, tried: list[int]) -> None:
    found = measured_usage(nuclei, CHOICE, 2)
    assert tried == [256, 256, 768]
    assert found.bytes_per_px == pytest.approx(1.1 * BYTES_PER_PX)  # with some in reserve
    assert found.fixed_bytes == pytest.approx(1.1 * FIXED_BYTES)
    assert found.bytes_at(10**6) == pytest.approx(1.1 * (FIXED_BYTES + 10**6 * BYTES_PER_PX))


def test_it_is_measured_once_on_a_machine(
    nuclei: Bundle, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measured_usage(nuclei, CHOICE, 2)
    assert measured_usage(nuclei, CHOICE, 2) == first
    assert len(tried) == 3
    monkeypatch.setattr(usage, "_KNOWN", {})  # another process: it loads the libraries, no more
    again = measured_usage(nuclei, CHOICE, 2)
    assert again.fixed_bytes == first.fixed_bytes
    assert again.bytes_per_px == pytest.approx(first.bytes_per_px, abs=0.1)
    assert tried[3:] == [256]
    measured_usage(nuclei, CHOICE, 1)
    assert len(tried) == 7


def test_what_cannot_be_kept_is_known_to_the_process(
    nuclei: Bundle, tried: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path / "file"))
    assert measured_usage(nuclei, CHOICE, 2) == measured_usage(nuclei, CHOICE, 2)
    assert len(tried) == 3


def test_a_trial_keeps_to_what_it_may_take(nuclei: Bundle, tried: list[int]) -> None:
    found = measured_usage(nuclei, CHOICE, 2, most_bytes=10**8)
    assert tried == [256, 256]
    assert found.bytes_at(768**2) > FIXED_BYTES + BYTES_PER_PX * 768**2


def test_where_the_system_does_not_tell_the_usual_is_expected(
    nuclei: Bundle, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "resident_bytes", lambda: None)
    assert measured_usage(nuclei, CHOICE, 2) == expected_usage("openvino")
    assert tried == []
    assert expected_usage("unheard of").bytes_per_px >= expected_usage("openvino").bytes_per_px


def test_the_shipped_model_takes_what_its_layers_hold(nuclei: Bundle) -> None:
    pytest.importorskip("openvino")
    if usage.resident_bytes() is None:
        pytest.skip("the system does not tell")
    found = measured_usage(nuclei, CHOICE, 1)
    assert 16 < found.bytes_per_px < expected_usage("openvino").bytes_per_px
