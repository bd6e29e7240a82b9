"""A model of whole images sees every image at the size it was trained at; slides are refused."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg.errors import CellsegError, SlideError
from cellseg.live.frame_segmenter import FrameSegmenter
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.bundles.manifest import ModelCard
from cellseg.runtime.evaluation.labelled import LabelledImage
from cellseg.runtime.evaluation.quality import ModelRunner, score_images
from cellseg.runtime.infer import infer_slide
from cellseg.runtime.inspect import describe_bundle, format_description
from cellseg.runtime.jobs.job import prepare
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.report.folder import RunFolder
from cellseg.runtime.segmenter import Segmenter
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.view.fit import bring_back, bring_to, wanted_fit
from cellseg.runtime.view.working import WorkingView
from tests.bundles import make_bundle
from tests.fakes import card_fields
from tests.slides import write_svs

WHOLE = {"fit": "whole", "fit_px": [48, 64]}
RUN = {"engine": "onnxruntime", "precision": "fp32"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Model of whole images brought to 64 x 48 px."""
    return make_bundle(tmp_path_factory.mktemp("fit") / "whole.cellseg", input=WHOLE)


def scene(height: int, width: int) -> np.ndarray:
    """Blobs, so that scale matters."""
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2))


def run_at_size(bundle: Bundle, image: np.ndarray) -> np.ndarray:
    """Run the network on an image that was brought to its size beforehand."""
    runner = ModelRunner(
        bundle.read_variant("model.fp32.onnx"), bundle.manifest, "onnxruntime", "fp32", 1
    )
    found = runner(bring_to(image, (48, 64)))
    runner.close()
    return found


@pytest.mark.parametrize("hw", [(96, 128), (120, 100), (31, 40), (48, 64), (200, 64)])
def test_an_image_fits_and_keeps_its_aspect(hw: tuple[int, int]) -> None:
    found = bring_to(scene(*hw), (48, 64)).shape[:2]
    assert found[0] == 48 or found[1] == 64
    assert found[0] <= 48
    assert found[1] <= 64
    factor = min(48 / hw[0], 64 / hw[1])
    assert np.abs(np.array(found) - np.array(hw) * factor).max() <= 0.5


def test_an_image_of_the_size_is_left_as_it_is() -> None:
    image = scene(48, 64)
    assert np.array_equal(bring_to(image, (48, 64)), image)


def test_channels_come_back_to_the_images_size() -> None:
    flat = np.full((24, 32, 2), 0.25, np.float32)
    assert np.array_equal(bring_back(flat, (96, 128)), np.full((96, 128, 2), 0.25, np.float32))


@pytest.mark.parametrize("hw", [(96, 128), (31, 40), (150, 100)])
def test_a_segmenter_brings_images_to_the_models_size_and_back(
    bundle: Bundle, hw: tuple[int, int]
) -> None:
    image = scene(*hw)
    with Segmenter(bundle, InferOptions(**RUN)) as segmenter:
        found = segmenter(image)
    assert found.classes.shape == hw
    np.testing.assert_allclose(
        found.probabilities, bring_back(run_at_size(bundle, image), hw), atol=1e-6
    )


def test_a_camera_frame_is_seen_at_the_models_size_too(bundle: Bundle) -> None:
    image = scene(96, 128)
    with Segmenter(bundle, InferOptions(**RUN)) as segmenter:
        known = segmenter(image).classes
    frames = FrameSegmenter.load(bundle.path, **RUN)
    assert np.array_equal(frames(image).classes, known)
    frames.close()


def test_native_leaves_an_image_at_its_own_scale(bundle: Bundle) -> None:
    image = scene(96, 128)
    with Segmenter(bundle, InferOptions(fit="native", **RUN)) as segmenter:
        found = segmenter(image)
    runner = ModelRunner(
        bundle.read_variant("model.fp32.onnx"), bundle.manifest, "onnxruntime", "fp32", 1
    )
    np.testing.assert_allclose(found.probabilities, runner(image), atol=1e-6)
    runner.close()


def test_a_run_says_the_size_and_works_at_it(bundle: Bundle, tmp_path: Path) -> None:
    image = scene(96, 128)
    cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
    options = InferOptions(model=bundle.path, **RUN)
    result = infer_slide(tmp_path / "image.png", tmp_path / "out", options)
    plan = result.report["plan"]
    assert (plan["fit_px"], plan["height_px"], plan["width_px"]) == ([48, 64], 48, 64)
    with RunFolder(result.folder) as folder:
        view = folder.view
        assert view is not None
        assert np.array_equal(view.read(0, 0, 48, 64), bring_to(image, (48, 64)))


def test_what_was_trained_whole_is_run_in_one_tile(tmp_path: Path) -> None:
    spec = {"fit": "whole", "fit_px": [2048, 2048]}
    bundle = make_bundle(tmp_path / "large.cellseg", input=spec)
    job = prepare(ArraySlide(np.zeros((30, 40), np.uint8)), bundle, InferOptions())
    assert (len(job.plan), job.plan.tile_hw) == (1, (1536, 2048))


def test_a_slide_is_refused_with_the_way_out(bundle: Bundle, tmp_path: Path) -> None:
    path = write_svs(tmp_path / "slide.tif", scene(256, 256))
    with pytest.raises(SlideError, match="whole images brought to 64 x 48 px") as caught:
        infer_slide(path, tmp_path / "out", InferOptions(model=bundle.path, **RUN))
    assert "--fit native" in str(caught.value.hint)
    assert not (tmp_path / "out" / "slide").exists()
    with closing(open_slide(path)) as slide:
        assert wanted_fit(bundle.manifest, slide, "whole") == (48, 64)
    options = InferOptions(model=bundle.path, fit="native", **RUN)
    report = infer_slide(path, tmp_path / "out", options).report
    assert (report["plan"]["fit_px"], report["plan"]["width_px"]) == (None, 256)


@pytest.mark.parametrize(
    ("fit", "mpp", "is_refused"),
    [("both", None, False), ("whole", 0.5, False), ("both", 0.5, False), ("whole", None, True)],
)
def test_slides_are_read_by_who_knows_their_scale(
    fit: str, mpp: float | None, is_refused: bool
) -> None:
    spec = {"fit": fit, "fit_px": [48, 64]}
    card = ModelCard.model_validate(card_fields(input=spec, mpp=mpp))
    slide = ArraySlide(scene(96, 128), mpp=0.25)
    assert wanted_fit(card, slide) == (48, 64)
    slide.kind = "slide"
    if is_refused:
        with pytest.raises(SlideError, match="whole images"):
            wanted_fit(card, slide)
    else:
        assert wanted_fit(card, slide) is None


def test_whole_is_refused_where_no_size_is_known() -> None:
    with pytest.raises(CellsegError, match="fit=whole"):
        wanted_fit(ModelCard.model_validate(card_fields()), ArraySlide(scene(8, 8)), "whole")
    with pytest.raises(CellsegError, match="fit is one of"):
        InferOptions(fit="hole")


def test_the_coarsest_level_that_is_fine_enough_is_read(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "slide.tif", scene(512, 512))
    slide = open_slide(path)
    view = WorkingView(slide, None, fit_hw=(64, 64))
    assert (view.level, view.scale, view.hw) == (1, 4.0, (64, 64))
    slide.close()


def test_quality_is_measured_at_the_models_scale(bundle: Bundle) -> None:
    image = scene(96, 128)
    known = bring_back(run_at_size(bundle, image), (96, 128))
    truth = known.argmax(-1).astype(np.uint8)
    runner = ModelRunner(
        bundle.read_variant("model.fp32.onnx"), bundle.manifest, "onnxruntime", "fp32", 1
    )
    item = LabelledImage("made", "a", image, np.zeros((96, 128), np.uint8), truth, False)
    score = score_images(runner, [item], bundle.manifest, "made")
    runner.close()
    assert score.quality.dice["nucleus"] == 1.0


def test_inspect_says_the_size(bundle: Bundle) -> None:
    text = format_description(describe_bundle(str(bundle.path)))
    assert "whole images are scaled to fit 64 x 48 px; slides are refused" in text
