"""Every family trains, saves, loads, exports to ONNX and TFLite, and infers tile by tile."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

keras = pytest.importorskip("keras", reason="needs the [train] extra")
pytest.importorskip("onnx", reason="needs the [export] extra")
pytest.importorskip("tensorflow")
pytest.importorskip("ai_edge_litert")

import cellseg  # noqa: E402
from cellseg.errors import ExportError  # noqa: E402
from cellseg.export.export import ExportOptions, ExportReport, export_run  # noqa: E402
from cellseg.layers import sees_whole_tile  # noqa: E402
from tests.train.small_families import CLASSES, SMALL, WITH_BACKBONE, batch, small, trained  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in WITH_BACKBONE else name for name in SMALL
]
TOLERANCE = 0.9  # of what looks at the whole tile, after ten steps


@functools.cache
def network(name: str) -> tuple[keras.Model, list[float]]:
    return trained(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Save and export a family's network, once."""
    folder = tmp_path_factory.mktemp("families")

    @functools.cache
    def made(name: str) -> tuple[Path, ExportReport]:
        model, _ = network(name)
        saved = folder / f"{name}.keras"
        model.save(saved)
        return saved, export_run(options(saved, model))

    return made


def options(saved: Path, model: keras.Model, **changes: Any) -> ExportOptions:
    whole = any(sees_whole_tile(layer) for layer in model.layers)
    count = CLASSES.get(saved.stem, 2)
    fields = {
        "classes": tuple(["background", "cell", "other"][:count]),
        "precisions": ("fp32",),
        "targets": ("onnx", "tflite"),
        "halo_tolerance": TOLERANCE if whole else 0.0,
        "threads": 1,
    }
    return ExportOptions(saved, saved.with_suffix(".cellseg"), **(fields | changes))


def run(model: keras.Model, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found = model(image.astype(np.float32), training=False)
    return np.asarray(keras.ops.convert_to_numpy(found))


@pytest.mark.parametrize("name", NAMES)
def test_ten_steps_make_the_loss_smaller(name: str) -> None:
    _, losses = network(name)
    assert np.isfinite(losses).all()
    assert min(losses[-3:]) < losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_network_comes_back_the_same(name: str, files: Any) -> None:
    model, image = network(name)[0], batch(name)[0]
    again = keras.saving.load_model(files(name)[0], compile=False, safe_mode=True)
    np.testing.assert_array_equal(run(again, image), run(model, image))


def test_attention_runs_in_a_traced_graph_at_any_size() -> None:
    model = small("swin-unet")
    for height, width in ((8, 24), (16, 8)):
        image = np.random.default_rng(0).uniform(0, 255, (1, height, width, 3)).astype(np.float32)
        np.testing.assert_allclose(model.predict_on_batch(image), run(model, image), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_both_files_compute_what_keras_computes(name: str, files: Any) -> None:
    manifest = files(name)[1].bundle.manifest
    assert {variant.format for variant in manifest.variants} == {"onnx", "tflite"}
    parity = manifest.provenance["export"]["parity"]
    assert len(parity) == 2
    assert max(parity.values()) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_tiles_give_what_the_whole_image_gives(name: str, files: Any, tmp_path: Path) -> None:
    model, bundle = network(name)[0], files(name)[1].bundle
    card = bundle.manifest
    tile = 2 * card.halo_px + 2 * card.stride
    side = tile + 4 * card.stride
    if card.halo_tolerance:  # not exact: that it runs is what is to be seen
        side = tile = max(tile, 4 * card.stride)
    blob = cv2.GaussianBlur(np.random.default_rng(1).random((side, side, 3)), (0, 0), 3)
    image = ((blob - blob.min()) / np.ptp(blob) * 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "field.png"), image[..., ::-1])
    result = cellseg.segment(
        tmp_path / "field.png", bundle.path, tmp_path / "out",
        tile_px=tile, tissue_mask=False, threads=1, engine="onnxruntime", precision="fp32",
    )  # fmt: skip
    classes = tifffile.imread(result.folder / "classes.ome.tif")
    whole = run(model, image[None])[0]
    expected = whole.argmax(-1) if name in CLASSES else whole[..., 0] >= 0.5
    sure = np.ones_like(classes, bool) if name in CLASSES else abs(whole[..., 0] - 0.5) > 1e-4
    np.testing.assert_array_equal(classes[sure], expected[sure])


def test_what_looks_at_the_whole_tile_is_refused_by_name_without_a_tolerance(
    tmp_path: Path,
) -> None:
    from cellseg.train.families import build_model

    params = {"levels": 2, "base_filters": 2, "normalization": "instance"}
    model, saved = build_model("unet", params), tmp_path / "run.keras"
    model.save(saved)
    with pytest.raises(ExportError, match="'down0a_norm'") as caught:
        export_run(options(saved, model, halo_tolerance=0.0))
    assert "--halo-tolerance" in str(caught.value.hint)
    with pytest.raises(ExportError, match=r"a change of 0\.\d+ past any halo by 'down0a_norm'"):
        export_run(options(saved, model, halo_tolerance=1e-6, targets=("onnx",)))


def test_the_tolerance_of_what_looks_at_the_whole_tile_is_stored(tmp_path: Path) -> None:
    from cellseg.train.families import build_model

    params = {"levels": 2, "base_filters": 2, "normalization": "instance"}
    model, saved = build_model("unet", params), tmp_path / "run.keras"
    model.save(saved)
    manifest = export_run(options(saved, model, targets=("onnx",))).bundle.manifest
    assert manifest.halo_tolerance == TOLERANCE
    noted = manifest.provenance["export"]["whole_tile"]
    assert noted["nodes"][0] == "down0a_norm"
    assert 0 < noted["largest_change"] <= TOLERANCE
