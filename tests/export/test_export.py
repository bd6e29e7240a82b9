"""From a run folder to a bundle, or to one clear error and no file."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from cellseg.errors import EngineError, ExportError, SlideError
from cellseg.export.export import ExportOptions, export_run
from cellseg.export.judging.judging import Judging
from cellseg.export.options import check_options
from cellseg.export.precisions.u8s8 import last_convolutions
from cellseg.runtime.bundles.bundle import Agreement, Bundle, Variant
from cellseg.runtime.engines import open_engine, tensorrt_api
from tests.export.drawn_images import write_labelled
from tests.export.graphs import noise
from tests.export.networks import ignore_keras_warnings, run_keras, unet
from tests.fakes import CELL_RULE, card_fields

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = ignore_keras_warnings

NAMES = [("background", 0), ("interior", 1), ("border", 1), ("distance", None)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run of an untrained network, labelled images beside it."""
    folder = tmp_path_factory.mktemp("run")
    unet(head="distance").save(folder / "best.keras")
    (folder / "model.json").write_text(json.dumps(card()))
    for name, seeds in {"train": range(6), "valid": range(10, 12), "test": range(20, 22)}.items():
        write_labelled(folder / name, seeds)
    return folder


def card(**changes: Any) -> dict[str, Any]:
    channels = [{"name": name, "class_index": index} for name, index in NAMES]
    head = {"kind": "softmax", "instances": CELL_RULE}
    return card_fields(channels=channels, head=head, threshold=0.5, **changes)


@pytest.fixture
def options(run: Path, tmp_path: Path) -> ExportOptions:
    return ExportOptions(
        run,
        tmp_path / "out.cellseg",
        representative=(run / "train",),
        evaluate=(("discs", run / "test"),),
        min_quality=0.0,
        methods=("minmax", "percentile"),
        tiles=8,
        tile_px=64,
        threads=1,
    )


def test_bundle_holds_both_variants_with_evidence(options: ExportOptions) -> None:
    report = export_run(replace(options, keep_channels=("background", "interior", "border")))
    manifest = Bundle.open(options.output).manifest
    assert [(v.precision, v.scheme) for v in manifest.variants] == [
        ("fp32", None),
        ("int8", "u8s8"),
    ]
    assert [item.name for item in manifest.channels] == ["background", "interior", "border"]
    for variant in manifest.variants:
        assert {(q.dataset, q.images) for q in variant.quality} == {("discs", 2)}
    assert manifest.variants[1].vs_fp32 is not None
    assert manifest.halo_px % manifest.stride == 0
    assert manifest.halo_px >= report.receptive_field.bound_px >= manifest.receptive_field_px > 0
    assert report.parity.max_difference < 1e-4
    assert report.int8 is not None
    assert report.int8.method == max(report.int8.scores, key=lambda m: report.int8.scores[m])
    json.dumps(report.to_json())


def test_every_target_gives_files_with_evidence(options: ExportOptions) -> None:
    pytest.importorskip("ai_edge_litert")
    report = export_run(
        replace(
            options,
            targets=("onnx", "tflite"),
            precisions=("fp32", "fp16", "int8"),
            methods=("minmax",),
        )
    )
    manifest = Bundle.open(options.output).manifest
    assert [variant.file for variant in manifest.variants] == [
        "model.fp32.onnx",
        "model.fp16.onnx",
        "model.fp32.tflite",
        "model.int8.u8s8.onnx",
        "model.int8.tflite",
    ]
    engines = {v.file: {q.engine for q in v.quality} for v in manifest.variants}
    assert engines["model.fp32.tflite"] == engines["model.int8.tflite"] == {"litert"}
    assert engines["model.fp16.onnx"] == {"onnxruntime"}
    assert all(v.retained is not None for v in manifest.variants)
    notes: Any = manifest.provenance["export"]
    assert notes["parity"]["model.fp32.tflite"] < 1e-4
    assert 0 < notes["parity"]["model.fp16.onnx"] < 1e-2
    assert 0 < notes["fp16"]["largest"] < 65504
    assert set(notes["int8_tflite"]["scores"]) == {"minmax"}
    assert [choice.scheme for choice in report.choices] == ["u8s8", "tflite"]


def test_bundle_runs_on_litert(options: ExportOptions) -> None:
    pytest.importorskip("ai_edge_litert")
    export_run(replace(options, targets=("tflite",), precisions=("fp32",), evaluate=()))
    bundle = Bundle.open(options.output)
    (image,) = noise(1, 32, 48)
    engines = [open_engine(bundle, name, "fp32", (32, 48)) for name in ("litert", "onnxruntime")]
    found, expected = (engine.infer(image) for engine in engines)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bundle_computes_what_keras_computes(options: ExportOptions) -> None:
    export_run(replace(options, precisions=("fp32",), evaluate=()))
    engine = open_engine(Bundle.open(options.output), "onnxruntime", "fp32", (32, 48), threads=1)
    (image,) = noise(1, 32, 48)
    expected = run_keras(unet(head="distance"), image[np.newaxis])[0]
    np.testing.assert_allclose(engine.infer(image), expected, atol=1e-5)


def test_labelled_images_may_choose_the_int8_file(options: ExportOptions, run: Path) -> None:
    report = export_run(replace(options, select=(("valid", run / "valid"),), evaluate=()))
    assert report.int8 is not None
    assert report.int8.scored_on == "valid"
    assert set(report.int8.scores) == {"minmax", "percentile"}


def test_same_export_gives_the_same_bytes(options: ExportOptions) -> None:
    export_run(replace(options, evaluate=()))
    first = options.output.read_bytes()
    export_run(replace(options, evaluate=()))
    assert options.output.read_bytes() == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precisions": ("fp32", "fp8")}, r"precision must be one of.*fp8"),
        ({"representative": ()}, "int8 needs representative images"),
        ({"min_quality": 99.0}, "a share of fp32, 0 to 1"),
        ({"keep_channels": ("interior",)}, "must cover every class"),
    ],
    ids=["precision", "no images", "percent", "channels"],
)
def test_export_that_fails_leaves_no_file(
    options: ExportOptions, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export_run(replace(options, **changes))
    assert not options.output.exists()


def test_representative_images_that_are_all_held_out_are_refused(
    options: ExportOptions, run: Path
) -> None:
    with pytest.raises(ExportError, match="none left"):
        export_run(replace(options, representative=(run / "test",)))


def test_representative_images_that_are_not_there_are_said_before_work_is_done(
    options: ExportOptions, run: Path
) -> None:
    with pytest.raises(SlideError, match="no such file or folder") as raised:
        export_run(replace(options, representative=(run / "trayn",)))
    assert "train" in str(raised.value.hint)


def test_images_that_choose_must_not_report(options: ExportOptions, run: Path) -> None:
    with pytest.raises(ExportError, match="must not be those that quality is reported on"):
        export_run(replace(options, select=(("again", run / "test"),)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 2}, "multiple of the network's stride"),
        ({"channels": card_fields()["channels"]}, "must name every output channel"),
    ],
    ids=["stride", "channels"],
)
def test_card_that_does_not_fit_the_network_is_refused(
    options: ExportOptions, run: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    fields = card() | changes
    (tmp_path / "model.json").write_text(json.dumps(fields))
    (tmp_path / "best.keras").write_bytes((run / "best.keras").read_bytes())
    with pytest.raises(ExportError, match=message):
        export_run(replace(options, run=tmp_path))


def test_a_run_knows_the_order_of_its_channels(options: ExportOptions) -> None:
    with pytest.raises(ExportError, match=r"knows what its network is fed.*bgr"):
        export_run(replace(options, channel_order="bgr"))


def test_file_that_is_no_keras_model_is_refused(options: ExportOptions, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(card()))
    (tmp_path / "best.keras").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"must be a Keras 3 model\. Received: a damaged file"):
        export_run(replace(options, run=tmp_path))


def test_tensorrt_gets_a_file_of_its_own_with_its_quality(options: ExportOptions) -> None:
    report = export_run(replace(options, targets=("onnx", "tensorrt"), methods=("minmax",)))
    manifest = Bundle.open(options.output).manifest
    assert [v.scheme for v in manifest.variants] == [None, "u8s8", "s8s8"]
    assert manifest.variants[2].file == "model.int8.s8s8.onnx"
    assert {q.engine for q in manifest.variants[2].quality} == {"simulated"}
    assert manifest.variants[2].vs_fp32 is not None
    assert [choice.scheme for choice in report.choices] == ["u8s8", "s8s8"]


def test_layers_are_given_back_until_enough_is_kept(
    options: ExportOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = chain([0.5, 0.6], repeat(0.995))  # what is enough is asked of every engine
    monkeypatch.setattr(Judging, "judge", lambda *_: lambda runner: next(told))
    monkeypatch.setattr(Variant, "retained", property(lambda self: 0.995))
    few = replace(options, methods=("minmax",), min_quality=0.99, evaluate=())
    choice = export_run(few).int8
    assert choice is not None
    assert [step.score for step in choice.given_back] == [0.6, 0.995]
    fp32 = Bundle.open(options.output).read_variant("model.fp32.onnx")
    last = last_convolutions(onnx.load_from_string(fp32))  # they go first
    assert {step.layer for step in choice.given_back} == {*last}
    assert choice.kept == 0.995
    floats = {item.layer for item in choice.noise if item.alone_db is None}
    assert floats >= {step.layer for step in choice.given_back}


def test_the_best_file_of_the_search_is_returned(
    options: ExportOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = chain([0.7, 0.6, 0.8], repeat(0.75))  # the second helps, together with the first
    monkeypatch.setattr(Judging, "judge", lambda *_: lambda runner: next(told))
    monkeypatch.setattr(Variant, "retained", property(lambda self: 0.995))
    few = replace(options, methods=("minmax",), min_quality=0.99, evaluate=())
    choice = export_run(few).int8
    assert choice is not None
    assert [step.score for step in choice.given_back] == [0.6, 0.8]
    assert choice.kept == 0.8
    assert choice.tried > 2
    floats = {item.layer for item in choice.noise if item.alone_db is None}
    assert {step.layer for step in choice.given_back} <= floats


def test_search_that_fails_leaves_a_report_and_no_bundle(
    options: ExportOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judging, "judge", lambda *_: lambda runner: 0.5)
    monkeypatch.setattr(Variant, "retained", property(lambda self: 0.5))
    with pytest.raises(ExportError, match=r"0 layers given back to float of \d+ tried") as raised:
        export_run(replace(options, methods=("minmax",), min_quality=0.99))
    assert "report.html" in str(raised.value.hint)
    assert options.output.with_suffix(".report.html").is_file()
    assert not options.output.exists()


def test_no_report_of_another_bundle_stays_beside_a_new_one(options: ExportOptions) -> None:
    options.output.with_suffix(".report.html").write_text("of int8 files")
    export_run(replace(options, precisions=("fp32",)))
    assert not options.output.with_suffix(".report.html").exists()


def test_without_labels_the_manifest_holds_agreement_and_no_quality(options: ExportOptions) -> None:
    report = export_run(replace(options, evaluate=(), precisions=("fp32", "fp16", "int8")))
    assert report.int8 is not None
    assert report.int8.scored_on == "agreement with fp32"
    fp32, fp16, int8 = Bundle.open(options.output).variants
    assert not any(item.quality or item.vs_fp32 for item in (fp32, fp16, int8))
    assert not fp32.agreement
    assert {item.engine for item in int8.agreement} >= {"onnxruntime"}
    assert 0.9 < fp16.agreement[0].kept <= 1.0
    by_ort = next(item for item in int8.agreement if item.engine == "onnxruntime")
    assert by_ort.kept == pytest.approx(report.int8.kept, abs=1e-4)  # one mechanism
    page = options.output.with_suffix(".report.html").read_text(encoding="utf-8")
    assert "They are no measure of quality" in page
    assert f"{by_ort.kept:.4f}" in page


def test_floor_that_agreement_cannot_reach_leaves_a_report_and_no_bundle(
    options: ExportOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Agreement, "kept", property(lambda self: 0.9998))
    hard = replace(options, methods=("minmax",), min_quality=0.9999, evaluate=())
    with pytest.raises(ExportError, match=r"agree .* to 0.9999 on .*: 0.9998 by") as raised:
        export_run(hard)
    assert "--test" in str(raised.value.hint)
    assert "given back to float" in options.output.with_suffix(".report.html").read_text("utf-8")
    assert not options.output.exists()


def test_a_floor_that_nobody_asked_for_warns_of_agreement(
    options: ExportOptions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Agreement, "kept", property(lambda self: 0.95))
    with caplog.at_level("WARNING", "cellseg"):
        export_run(replace(options, methods=("minmax",), min_quality=None, evaluate=()))
    assert "agrees with fp32 to 0.9500 only" in caplog.text
    assert Bundle.open(options.output).variants[1].retained == 0.95


def test_nothing_found_fails_only_where_a_floor_is_asked(options: ExportOptions) -> None:
    card_that_sees_nothing = card() | {"threshold": 1.0}
    (options.output.parent / "model.json").write_text(json.dumps(card_that_sees_nothing))
    (options.output.parent / "best.keras").write_bytes((options.run / "best.keras").read_bytes())
    blind = replace(options, run=options.output.parent, evaluate=(), methods=("minmax",))
    with pytest.raises(ExportError, match="finds nothing on any of"):
        export_run(replace(blind, min_quality=0.9))
    export_run(replace(blind, min_quality=None))
    variants = Bundle.open(options.output).variants
    assert [variant.retained for variant in variants] == [1.0, None]
    page = options.output.with_suffix(".report.html").read_text(encoding="utf-8")
    assert "was not measured: judged by nothing (fp32 finds nothing on any of" in page


def test_engines_without_the_file_they_are_built_from_are_refused(options: ExportOptions) -> None:
    with pytest.raises(ExportError, match="built from the file for TensorRT"):
        export_run(replace(options, compute_capabilities=("8.6",)))


def test_engines_that_nothing_here_builds_are_refused_before_work_is_done(
    options: ExportOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_api, "find_spec", lambda name: None)
    wanted = replace(options, targets=("onnx", "tensorrt"), compute_capabilities=("8.6",))
    with pytest.raises(EngineError, match="needs the package"):
        check_options(wanted)


def test_engines_for_a_gpu_that_is_not_known_are_refused_before_work_is_done(
    options: ExportOptions,
) -> None:
    pytest.importorskip("tensorrt_rtx")
    wanted = replace(options, targets=("onnx", "tensorrt"), compute_capabilities=("8.6", "86"))
    with pytest.raises(EngineError, match=r"8\.6, 8\.9, .*Received: 86\."):
        check_options(wanted)


def test_unknown_target_is_refused(options: ExportOptions) -> None:
    with pytest.raises(ExportError, match="target must be one of"):
        export_run(replace(options, targets=("coreml",)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mpp": -1.0}, r"pixel in microns.*mpp=-1"),
        ({"mpp": 1e9}, "pixel in microns"),
        ({"mpp": float("nan")}, "pixel in microns"),
        ({"halo_tolerance": 5.0}, "difference of probabilities"),
        ({"halo_tolerance": -1.0}, "difference of probabilities"),
    ],
)
def test_a_number_that_is_none_is_refused_before_work_is_done(
    options: ExportOptions, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export_run(replace(options, **changes))


def test_what_is_exported_is_not_overwritten(options: ExportOptions, tmp_path: Path) -> None:
    weights = options.run / "best.keras"
    before = weights.read_bytes()
    with pytest.raises(ExportError, match="only bundles are replaced"):
        export_run(replace(options, output=weights))
    assert weights.read_bytes() == before
    with pytest.raises(ExportError, match="is a file") as caught:
        export_run(replace(options, output=tmp_path))
    assert "model.cellseg" in str(caught.value.hint)
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="written to a folder"):
        export_run(replace(options, output=tmp_path / "file" / "x.cellseg"))


def test_a_run_that_is_not_there_is_said_before_anything_is_done(options: ExportOptions) -> None:
    with pytest.raises(ExportError, match="nowhere"):
        export_run(replace(options, run=options.run.parent / "nowhere"))
    assert not options.output.exists()
