"""What OpenVINO compiled is opened again, as long as nothing it depends on has changed."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines import EngineOptions
from cellseg.runtime.engines.trim import Sides

pytest.importorskip("openvino")

from cellseg.runtime.engines import openvino, openvino_cache

if TYPE_CHECKING:
    from pathlib import Path

TILE_HW = (320, 352)
UNSEEN = Sides(96, 0, 112, 96)
TILE = np.random.default_rng(0).integers(0, 256, (*TILE_HW, 3), np.uint8)
FILES = {"fp32": "model.fp32.onnx", "int8": "model.int8.u8s8.onnx"}
MODEL = Bundle.open("nuclei").read_variant(FILES["int8"])


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, int]]:
    """Begin with an empty folder; return the tiles for which models were compiled."""
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path / "cache"))
    tiles: list[tuple[int, int]] = []
    compile_model = openvino._compile

    def counted(model: bytes, options: EngineOptions) -> tuple[Any, Any]:
        tiles.append(options.tile_hw)
        return compile_model(model, options)

    monkeypatch.setattr(openvino, "_compile", counted)
    return tiles


def found(precision: str = "int8", model: bytes = MODEL, **options: Any) -> Any:
    """Open an engine, run a tile, close it."""
    chosen = EngineOptions(precision, TILE_HW, 3, 1, **options)
    engine = openvino.OpenVinoEngine(model, chosen)
    channels, first = engine.infer_trimmed(TILE, None, UNSEEN)
    engine.close()
    return first, channels.copy()


@pytest.mark.parametrize("precision", FILES)
def test_what_was_kept_computes_the_same(precision: str, compiled: list[tuple[int, int]]) -> None:
    model = Bundle.open("nuclei").read_variant(FILES[precision])
    first, again = found(precision, model), found(precision, model)
    assert compiled == [TILE_HW]
    assert again[0] == first[0] != (0, 0)
    np.testing.assert_array_equal(again[1], first[1])


def test_frames_of_which_all_is_looked_at_are_kept_apart(compiled: list[tuple[int, int]]) -> None:
    assert found()[0] != found(one_at_a_time=True)[0] == (0, 0)
    assert found(one_at_a_time=True)[0] == (0, 0)
    assert len(compiled) == 2


def test_another_file_version_or_order_is_compiled(
    compiled: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found()
    found(model=Bundle.open("nuclei").read_variant(FILES["fp32"]))
    monkeypatch.setattr(openvino.ov, "__version__", "2031.1")
    found()
    monkeypatch.setattr(openvino_cache, "_way_of_ordering", lambda: "another")
    found()
    assert len(compiled) == 4


@pytest.mark.parametrize("damage", ["blob", "facts", "trimmer"])
def test_what_is_damaged_is_compiled_anew(damage: str, compiled: list[tuple[int, int]]) -> None:
    expected = found()
    (blob,) = openvino_cache.COMPILED.folder.glob("*.blob")
    facts = blob.with_suffix(".json")
    if damage == "blob":
        blob.write_bytes(blob.read_bytes()[:-1])
    elif damage == "facts":
        facts.write_text("{")
    else:
        facts.write_text(facts.read_text().replace('"reach"', '"breach"'))
    np.testing.assert_array_equal(found()[1], expected[1])
    assert len(compiled) == 2


def test_what_openvino_does_not_open_any_more_is_compiled_anew_and_told(
    compiled: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found()
    kept = openvino.recall_compiled
    monkeypatch.setattr(
        openvino, "recall_compiled", lambda key: kept(key)._replace(data=b"no model")
    )
    with caplog.at_level(logging.WARNING):
        found()
    assert len(compiled) == 2
    assert "does not open any more" in caplog.text


def test_large_models_are_not_kept(
    compiled: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_cache, "_MOST_BYTES", 1000)
    found(), found()
    assert len(compiled) == 2


def test_a_folder_that_cannot_be_written_only_costs_time(
    compiled: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    monkeypatch.setenv("CELLSEG_CACHE", str(file))
    found(), found()
    assert len(compiled) == 2


@pytest.mark.parametrize(
    ("precision", "flags", "is_done"),
    [
        pytest.param("int8", ("avx2",), False, id="AVX2 alone"),
        pytest.param("fp32", ("avx2",), True, id="floats"),
        pytest.param("int8", ("avx2", "vnni"), True, id="byte products"),
        pytest.param("int8", ("avx2", "avx512", "vnni", "amx"), True, id="AMX"),
        pytest.param("int8", ("neon", "dotprod"), True, id="ARM"),
        pytest.param("int8", None, True, id="unknown"),
    ],
)
def test_blocks_are_spread_by_a_convolution_where_it_is_one_of_bytes(
    precision: str,
    flags: tuple[str, ...] | None,
    is_done: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The values are the same either way; `bench/openvino_order.py` says what it brings."""
    done: list[Any] = []
    monkeypatch.setattr(openvino, "this_machine", lambda: SimpleNamespace(cpu_flags=flags))
    monkeypatch.setattr(openvino, "spread_by_convolution", done.append)
    openvino._compile(
        Bundle.open("nuclei").read_variant(FILES[precision]),
        EngineOptions(precision, (64, 64), 3, 1),
    )
    assert bool(done) is is_done
