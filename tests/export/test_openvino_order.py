"""OpenVINO's graph put in order and cut: of every family what the file alone computes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")
pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.export.precisions.ranges import collect_distributions  # noqa: E402
from cellseg.export.precisions.u8s8 import quantize_u8s8  # noqa: E402
from cellseg.export.sources.translate import for_onnx, plain_graph  # noqa: E402
from cellseg.runtime.engines import EngineOptions  # noqa: E402
from cellseg.runtime.engines.openvino import OpenVinoEngine  # noqa: E402
from cellseg.runtime.engines.trim import NOTHING, Sides, infer_seen  # noqa: E402
from tests.export.networks import ignore_keras_warnings  # noqa: E402
from tests.train.small_families import SMALL, WITH_BACKBONE, small  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = ignore_keras_warnings

TILE_HW = (128, 160)
TILES = list(np.random.default_rng(0).integers(0, 256, (3, *TILE_HW, 3), np.uint8))
LOOKS = [NOTHING, Sides(40, 40, 40, 40), Sides(0, 33, 17, 0), Sides(31, 0, 0, 62)]
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in WITH_BACKBONE else name for name in SMALL
]


@functools.cache
def files(name: str) -> tuple[dict[str, bytes], int]:
    """Export a family's network; its files, and how many channels it gives."""
    keras_model = small(name)
    channels = int(keras_model.outputs[0].shape[-1])
    model = for_onnx(plain_graph(keras_model, range(channels), channels, whole_tile=True))
    int8 = quantize_u8s8(model, collect_distributions(model, TILES), "minmax")
    return {"fp32": model.SerializeToString(), "int8": int8.SerializeToString()}, channels


def as_the_file_says(model: bytes) -> NDArray[np.float32]:
    graph = openvino.Core().read_model(model)
    graph.reshape({graph.input(0): [1, *TILE_HW, 3]})
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    found: NDArray[np.float32] = openvino.Core().compile_model(graph, "CPU", settings)(
        [TILES[0][np.newaxis]]
    )[0][0]
    return found


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", NAMES)
def test_every_family_gives_what_its_file_says(name: str, precision: str) -> None:
    models, channels = files(name)
    expected = as_the_file_says(models[precision])
    engine = OpenVinoEngine(models[precision], EngineOptions(precision, TILE_HW, channels, 1))
    for unseen in LOOKS:
        found, (top, left) = infer_seen(engine, TILES[0], None, unseen)
        height, width = unseen.within(TILE_HW)
        seen = found[unseen.top - top :, unseen.left - left :][:height, :width]
        whole = expected[unseen.top :, unseen.left :][:height, :width]
        np.testing.assert_allclose(seen, whole, rtol=0, atol=2e-6, err_msg=str(unseen))
    engine.close()
