"""One contract for every engine in the table; those not installed skip."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cellseg.errors import EngineError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines import ENGINES, Engine, open_engine
from cellseg.runtime.engines.trim import NOTHING, Sides, infer_seen
from tests.bundles import make_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


HW = (32, 48)

# Engines sum in different orders; the logits of the test model reach some tens.
TOLERANCE = {"fp32": 2e-5}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny.cellseg", tflite=True)


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Engine]:
    if not ENGINES[request.param].is_available():
        pytest.skip(f"{ENGINES[request.param].import_name} is not installed")
    opened = open_engine(bundle, request.param, "fp32", HW, threads=2)
    yield opened
    opened.close()


@pytest.fixture
def tiles() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*HW, 3), np.uint8) for _ in range(12)]


def test_it_says_what_it_is(engine: Engine) -> None:
    assert engine.name in ENGINES
    assert (engine.precision, engine.device, engine.tile_hw) == ("fp32", "cpu", HW)
    assert engine.threads >= 1
    assert engine.concurrency >= 1


def test_result_is_that_of_the_reference(
    engine: Engine, bundle: Bundle, tiles: list[NDArray[np.uint8]]
) -> None:
    reference = open_engine(bundle, "onnxruntime", "fp32", HW, threads=1)
    difference = np.abs(engine.infer(tiles[0]) - reference.infer(tiles[0])).max()
    assert difference <= TOLERANCE[engine.precision]


def test_result_is_float32_probabilities_of_the_tile(
    engine: Engine, tiles: list[NDArray[np.uint8]]
) -> None:
    result = engine.infer(tiles[0])
    assert (result.dtype, result.shape) == (np.float32, (*HW, 2))
    np.testing.assert_allclose(result.sum(axis=-1), 1.0, atol=1e-5)


def test_same_tile_gives_the_same_bytes_whatever_runs_beside_it(
    engine: Engine, tiles: list[NDArray[np.uint8]]
) -> None:
    alone = [engine.infer(tile).tobytes() for tile in tiles]
    with ThreadPoolExecutor(4) as pool:
        beside = [result.tobytes() for result in pool.map(engine.infer, tiles * 3)]
    assert beside == alone * 3


def test_number_of_threads_does_not_change_the_bytes(
    engine: Engine, bundle: Bundle, tiles: list[NDArray[np.uint8]]
) -> None:
    single = open_engine(bundle, engine.name, "fp32", HW, threads=1)
    assert single.infer(tiles[0]).tobytes() == engine.infer(tiles[0]).tobytes()
    single.close()


@pytest.mark.parametrize("model", ["tiny", "nuclei"])
def test_no_more_tiles_than_asked_for_are_computed_at_once_and_the_bytes_are_the_same(
    engine: Engine, bundle: Bundle, model: str
) -> None:
    used = bundle if model == "tiny" else Bundle.open(model)
    tile = np.random.default_rng(2).integers(0, 256, (96, 128, 3), np.uint8)

    def infer(most_at_once: int | None) -> bytes:
        arguments = (used, engine.name, "fp32", tile.shape[:2], 2)
        with closing(open_engine(*arguments, most_at_once=most_at_once)) as opened:
            assert opened.concurrency <= (most_at_once or 2)
            return opened.infer(tile).tobytes()

    assert infer(1) == infer(None)


def test_result_belongs_to_the_caller(engine: Engine, tiles: list[NDArray[np.uint8]]) -> None:
    kept = [engine.infer(tile) for tile in tiles]
    copies = [result.copy() for result in kept]
    for tile in reversed(tiles):
        engine.infer(tile)
    engine.close()
    for result, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(result, copy)
    kept[0][:] = 0  # and it may be written to


def test_result_goes_where_it_is_told(engine: Engine, tiles: list[NDArray[np.uint8]]) -> None:
    out = np.full((*HW, 2), np.nan, np.float32)
    assert engine.infer(tiles[0], out) is out
    np.testing.assert_array_equal(out, engine.infer(tiles[0]))


@pytest.mark.parametrize("unseen", [Sides(4, 4, 4, 4), Sides(16, 0, 0, 20), NOTHING], ids=str)
def test_what_is_looked_at_does_not_depend_on_what_is_left_out(
    engine: Engine, tiles: list[NDArray[np.uint8]], unseen: Sides
) -> None:
    out = np.full((*HW, 2), np.nan, np.float32)
    found, (top, left) = infer_seen(engine, tiles[0], out, unseen)
    assert np.shares_memory(found, out)
    assert found.flags.c_contiguous
    (height, width), (y, x) = unseen.within(HW), (unseen.top, unseen.left)
    seen = found[y - top : y - top + height, x - left : x - left + width]
    np.testing.assert_array_equal(seen, engine.infer(tiles[0])[y : y + height, x : x + width])


def test_tile_is_not_written_to_and_may_be_a_read_only_window(
    engine: Engine, tiles: list[NDArray[np.uint8]]
) -> None:
    canvas = np.zeros((HW[0] + 8, HW[1] + 8, 3), np.uint8)
    window = canvas[4:-4, 4:-4]
    window[:] = tiles[0]
    window.flags.writeable = False
    frozen = tiles[0].copy()
    frozen.flags.writeable = False
    expected = engine.infer(tiles[0])
    np.testing.assert_array_equal(engine.infer(window), expected)
    np.testing.assert_array_equal(engine.infer(frozen), expected)
    np.testing.assert_array_equal(frozen, tiles[0])


@pytest.mark.parametrize("shape", [(48, 32, 3), (32, 48), (32, 48, 4), (1, 32, 48, 3)], ids=str)
def test_tile_of_another_shape_is_refused(engine: Engine, shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match=r"must be uint8 of shape \(32, 48, 3\)"):
        engine.infer(np.zeros(shape, np.uint8))


def test_tile_of_another_dtype_is_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match="dtype=float32"):
        engine.infer(np.zeros((*HW, 3), np.float32))  # type: ignore[arg-type]


def test_out_that_cannot_be_written_to_directly_is_refused(
    engine: Engine, tiles: list[NDArray[np.uint8]]
) -> None:
    transposed = np.zeros((*HW[::-1], 2), np.float32).transpose(1, 0, 2)
    for out in (np.zeros((*HW, 3), np.float32), np.zeros((*HW, 2)), transposed):
        with pytest.raises(EngineError, match="out must be"):
            engine.infer(tiles[0], out)


def test_it_may_be_closed_twice_and_then_refuses(
    engine: Engine, tiles: list[NDArray[np.uint8]]
) -> None:
    told = engine.name, engine.precision, engine.device, engine.threads
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed engine"):
        engine.infer(tiles[0])
    assert (engine.name, engine.precision, engine.device, engine.threads) == told


@pytest.mark.parametrize("name", list(ENGINES))
@pytest.mark.parametrize("tile_hw", [(30, 48), (32, 50), (0, 32)], ids=str)
def test_tile_off_the_stride_is_refused(
    bundle: Bundle, name: str, tile_hw: tuple[int, int]
) -> None:
    with pytest.raises(EngineError, match="multiples of the model's stride, 4"):
        open_engine(bundle, name, "fp32", tile_hw)


@pytest.mark.parametrize("name", list(ENGINES))
def test_model_that_does_not_fit_its_manifest_is_refused(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not ENGINES[name].is_available():
        pytest.skip(f"{ENGINES[name].import_name} is not installed")
    channels = [{"name": str(i), "class_index": min(i, 1)} for i in range(3)]
    path = tmp_path_factory.mktemp("wrong") / "w.cellseg"
    wrong = make_bundle(path, tflite=True, channels=channels)
    with pytest.raises(EngineError, match="The model must map"):
        open_engine(wrong, name, "fp32", HW)


@pytest.mark.parametrize("name", list(ENGINES))
def test_bytes_that_are_no_model_are_refused_by_the_adapter(name: str) -> None:
    if not ENGINES[name].is_available():
        pytest.skip(f"{ENGINES[name].import_name} is not installed")
    from cellseg.runtime.engines import EngineOptions

    with pytest.raises(EngineError, match="must be able to"):
        ENGINES[name].load(name)(b"\x08\x07 nonsense", EngineOptions("fp32", HW, 2, 1))


def test_bf16_is_offered_only_where_the_processor_has_it(bundle: Bundle) -> None:
    openvino = pytest.importorskip("openvino")
    has_it = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if has_it:
        assert open_engine(bundle, "openvino", "bf16", HW).precision == "bf16"
    else:
        with pytest.raises(EngineError, match="needs a processor with bf16"):
            open_engine(bundle, "openvino", "bf16", HW)
