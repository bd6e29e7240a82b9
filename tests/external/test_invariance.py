"""What must not change a result: order, threads, memory, interrupts, the grid's origin, the level.

Gaps that no other suite tests; the predictor's answer depends on where in its tile a pixel lies, so
that a tile that is left out or counted twice cannot go unseen.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from cellseg.errors import EngineError, StoreError
from cellseg.runtime.infer import RunResult, infer_slide
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.slides.slide import ArraySlide
from tests.fakes import CONV_REACH_PX, ConvEngine, FakeEngine, fake_bundle, nuclei_picture

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WAYS: list[dict[str, Any]] = [
    {"blend": "crop"},
    {"blend": "hann"},
    {"blend": "gaussian", "overlap": 0.6},
]


class PlaceEngine(FakeEngine):
    """Surer towards the lower right of its tile."""

    def foreground(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = tile.shape[:2]
        place = np.add.outer(np.arange(height) / height, np.arange(width) / width) / 2
        return (tile[..., 1] / 255 * 0.6 + place * 0.4).astype(np.float32)


class TiredEngine(PlaceEngine):
    """Gives up at its n-th call."""

    patience = 9

    def foreground(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.calls > self.patience:
            raise RuntimeError("out of patience")
        return super().foreground(tile)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_bundle(tmp_path_factory.mktemp("model") / "fake.cellseg").path


def run(
    image: NDArray[np.uint8],
    out: Path,
    bundle: Path,
    kind: type[FakeEngine] = PlaceEngine,
    concurrency: int = 1,
    **options: Any,
) -> RunResult:
    chosen = InferOptions(model=bundle, tile_px=options.pop("tile_px", 64), **options)
    return infer_slide(
        ArraySlide(image),
        out,
        chosen,
        open_engine=lambda _, __, tile_hw: kind(tile_hw, concurrency=concurrency),
    )


def sha256(result: RunResult) -> str:
    return hashlib.sha256((result.folder / "classes.ome.tif").read_bytes()).hexdigest()


def classes(result: RunResult) -> NDArray[np.uint8]:
    return tifffile.imread(result.folder / "classes.ome.tif")


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_threads_batch_and_memory_do_not_change_a_byte(
    tmp_path: Path, bundle: Path, way: dict[str, Any]
) -> None:
    image = nuclei_picture(211, 305)
    settings: list[dict[str, Any]] = [
        {"workers": 1, "batch": 1},
        {"workers": 5, "batch": 3, "concurrency": 3},
        {"workers": 2, "batch": 1000, "max_ram_bytes": 2**30},
    ]
    found = {
        sha256(run(image, tmp_path / str(number), bundle, **way, **setting))
        for number, setting in enumerate(settings)
    }
    assert len(found) == 1


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("patience", [1, 6, 11])
def test_a_run_that_failed_goes_on_to_the_same_bytes(
    tmp_path: Path,
    bundle: Path,
    way: dict[str, Any],
    patience: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = nuclei_picture(211, 305)
    monkeypatch.setattr(TiredEngine, "patience", patience)
    with pytest.raises(EngineError, match="out of patience"):
        run(image, tmp_path / "a", bundle, TiredEngine, concurrency=2, **way)
    with pytest.raises(EngineError, match="out of patience"):
        run(image, tmp_path / "a", bundle, TiredEngine, **way)
    resumed = run(image, tmp_path / "a", bundle, concurrency=2, **way)
    assert resumed.report["plan"]["sessions"] == 3
    assert sha256(resumed) == sha256(run(image, tmp_path / "b", bundle, **way))


SLOW_RUN = """
import sys
from cellseg.runtime.slides.slide import ArraySlide
from tests.fakes import nuclei_picture, run_fake
def tell(state):
    if state.tiles_done >= 8:
        print("far enough", flush=True)
run_fake(ArraySlide(nuclei_picture(211, 305)), sys.argv[1], sys.argv[2], tile_px=64, blend="hann",
         engine_options={"delay_s": 0.1}, progress=tell)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_blended_run_that_was_killed_ends_in_the_same_bytes(
    tmp_path: Path, bundle: Path, repository: Path
) -> None:
    command = [sys.executable, "-c", SLOW_RUN, str(tmp_path / "killed"), str(bundle)]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    with subprocess.Popen(
        command, cwd=repository, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "far enough\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    image = nuclei_picture(211, 305)
    resumed = run(image, tmp_path / "killed", bundle, ConvEngine, blend="hann")
    assert resumed.report["plan"]["tiles_resumed"] > 0
    assert sha256(resumed) == sha256(run(image, tmp_path / "b", bundle, ConvEngine, blend="hann"))


def test_another_way_to_blend_is_another_run(tmp_path: Path, bundle: Path) -> None:
    image = nuclei_picture(150, 150)
    run(image, tmp_path, bundle, blend="hann")
    with pytest.raises(StoreError, match=r"blend was .*hann"):
        run(image, tmp_path, bundle, blend="gaussian")


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("hw", [(1, 1), (1, 300), (300, 1), (2, 3), (63, 65), (129, 127)])
def test_odd_and_tiny_slides_run(
    tmp_path: Path, bundle: Path, hw: tuple[int, int], way: dict[str, Any]
) -> None:
    result = run(nuclei_picture(*hw), tmp_path, bundle, **way)
    assert classes(result).size == hw[0] * hw[1]
    assert sum(c["pixels"] for c in result.report["classes"].values()) == hw[0] * hw[1]


@pytest.mark.parametrize("shift_yx", [(2, 0), (0, 6), (38, 52)])
def test_moving_the_grid_over_the_slide_changes_nothing_inside(
    tmp_path: Path, bundle: Path, shift_yx: tuple[int, int]
) -> None:
    image = nuclei_picture(230, 260)
    y, x = shift_yx
    whole = classes(run(image, tmp_path / "whole", bundle, ConvEngine))
    moved = classes(run(image[y:, x:], tmp_path / "moved", bundle, ConvEngine))
    top, left = (CONV_REACH_PX if shift else 0 for shift in shift_yx)  # what the new border reaches
    np.testing.assert_array_equal(moved[top:, left:], whole[y + top :, x + left :])


@pytest.mark.parametrize("tile_px", [32, 64, 96, 512])
def test_no_tile_size_changes_a_cropped_result(tmp_path: Path, bundle: Path, tile_px: int) -> None:
    image = nuclei_picture(230, 260)
    whole = run(image, tmp_path / "whole", bundle, ConvEngine, tile_px=1024)
    tiled = run(image, tmp_path / "tiled", bundle, ConvEngine, tile_px=tile_px)
    assert sha256(whole) == sha256(tiled)


def halved_twin(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take the commonest label of each 2 x 2 block, the first of the commonest on a tie."""
    height, width = labels.shape
    padded = np.pad(labels, ((0, height % 2), (0, width % 2)), mode="edge")
    blocks = [padded[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    counts = np.stack([sum(block == other for other in blocks) for block in blocks])
    return np.choose(counts.argmax(axis=0), blocks)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_each_level_of_the_pyramid_is_the_half_of_the_one_below(
    tmp_path: Path, bundle: Path, way: dict[str, Any]
) -> None:
    result = run(
        np.tile(nuclei_picture(150, 190), (9, 10, 1))[:1301, :1750],
        tmp_path,
        bundle,
        tile_px=256,
        **way,
    )
    with tifffile.TiffFile(result.folder / "classes.ome.tif") as file:
        levels = [level.asarray() for level in file.series[0].levels]
    assert len(levels) > 1
    assert levels[0].shape == (1301, 1750)
    for fine, coarse in itertools.pairwise(levels):
        np.testing.assert_array_equal(coarse, halved_twin(fine))
