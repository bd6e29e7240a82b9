"""From a training run to a bundle: translate, check, measure, quantize, measure again, write.

Nothing is written unless every gate holds: parity with Keras, a receptive field within its bound,
and the quality asked for.
"""

from __future__ import annotations

import hashlib
import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import ExportError
from cellseg.export.card import KERAS_FILE, keep_channels, locate_run, read_card
from cellseg.export.int8 import Int8Choice, Int8Lab, choose_int8
from cellseg.export.labelled import LabelledImage, read_labelled
from cellseg.export.options import ExportOptions, ExportReport
from cellseg.export.parity import Parity, keras_predict, measure_parity
from cellseg.export.quality import ModelRunner, Runner, Score, score_images, versus_fp32
from cellseg.export.reach import total_stride
from cellseg.export.receptive_field import (
    ReceptiveField,
    choose_halo,
    measure_reach,
    probe_side,
)
from cellseg.export.representative import content_hash, find_images, pick_tiles
from cellseg.export.simulate import SIMULATED, SimulatedRunner
from cellseg.export.sqnr_report import report_path, write_report
from cellseg.export.translate import float_graph
from cellseg.runtime.bundle import Manifest, Variant, write_bundle
from cellseg.runtime.engines import ENGINES
from cellseg.runtime.machine import usable_cores
from cellseg.runtime.normalize import Normalize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from cellseg.export.representative import RepresentativeTile
    from cellseg.export.tensorrt import EngineFile
    from cellseg.runtime.bundle import Bundle, VersusFp32

__all__ = ["ExportOptions", "ExportReport", "export_run"]

_LOG = logging.getLogger(__name__)
FP32_FILE = "model.fp32.onnx"
_TARGET_OF_SCHEME = {"u8s8": "onnx", "s8s8": "tensorrt"}
_PRECISIONS = ("fp32", "int8")
TARGETS = ("onnx", "tensorrt")
_PARITY_TILES = 8
_PROBE_PAIRS = 8


def export_run(options: ExportOptions) -> ExportReport:
    """Export a trained Keras model to a bundle.

    Parameters
    ----------
    options : ExportOptions
        What to export, and what to measure it on.

    Returns
    -------
    ExportReport
        Also what the manifest does not hold.

    Raises
    ------
    ExportError
        If a layer has no counterpart, a measurement contradicts the model, or a variant misses the
        quality asked for. Nothing is written then.
    DataError
        If labelled images do not fit the model.
    """
    _check(options)
    return _Export(options).run()


class _Export:
    """One export; its steps read top to bottom in `run`."""

    def __init__(self, options: ExportOptions) -> None:
        self.options = options
        self.keras_file, card_file = locate_run(options.run)
        whole = read_card(card_file)
        self.card, self.channels = keep_channels(whole, options.keep_channels)
        self.trained_channels = len(whole.channels)
        spec = self.card.input.normalize
        self.normalize = Normalize(spec.kind, spec.low, spec.high)
        self.threads = options.threads or usable_cores()
        self.rng = np.random.default_rng(options.seed)

    def run(self) -> ExportReport:
        keras_model = _load_keras(self.keras_file)
        graph = float_graph(keras_model, self.channels, self.trained_channels)
        self.check_stride(total_stride(graph))
        fp32 = graph.SerializeToString()
        evaluate = self.read_datasets(self.options.evaluate)
        select = self.read_datasets(self.options.select)
        _check_disjoint(select, evaluate)
        tiles = self.pick_tiles()
        parity = self.check_parity(keras_model, fp32, tiles)
        reach = self.measure_reach(graph, fp32, tiles)
        choices = self.choose_int8(graph, tiles, select)
        reference = self.score(fp32, "fp32", evaluate)
        variants = [_variant(FP32_FILE, fp32, "fp32", reference)]
        files = {FP32_FILE: fp32}
        for choice in choices:
            variants.append(self.int8_variant(choice, reference, evaluate))
            files[variants[-1].file] = choice.model
        self.report_int8(choices)
        for variant, choice in zip(variants[1:], choices, strict=True):
            self.check_quality(variant, choice)
        manifest = self.manifest(variants, reach, parity, choices, len(tiles))
        bundle = write_bundle(self.options.output, manifest, files)
        _LOG.info("wrote %s (%.1f MB)", bundle.path, bundle.path.stat().st_size / 1e6)
        return ExportReport(bundle, parity, reach, choices, len(tiles), self.engines(bundle))

    def engines(self, bundle: Bundle) -> tuple[EngineFile, ...]:
        """Build TensorRT engines beside the bundle, for the GPUs that were named."""
        capabilities = self.options.compute_capabilities
        if not capabilities:
            return ()
        from cellseg.export.tensorrt import build_engines

        folder = self.options.output.parent
        return tuple(build_engines(bundle, capabilities, self.options.engine_tile_px, folder))

    def check_stride(self, stride: int) -> None:
        if self.card.stride % stride:
            raise ExportError(
                "model.json must state a multiple of the network's stride. "
                f"Received: stride={self.card.stride}, the network's is {stride}."
            )

    def read_datasets(self, named: tuple[tuple[str, Path], ...]) -> dict[str, list[LabelledImage]]:
        names = [item.name for item in self.card.classes]
        return {name: read_labelled(folder, names, self.normalize) for name, folder in named}

    def pick_tiles(self) -> list[NDArray[np.uint8]]:
        if not self.options.representative:
            return []
        held_out = {
            content_hash(path)
            for _, folder in (*self.options.evaluate, *self.options.select)
            for path in find_images(folder / "images")
        }
        picked: list[RepresentativeTile] = pick_tiles(
            self.options.representative,
            self.normalize,
            self.options.tiles,
            self.options.tile_px,
            self.options.seed,
            held_out,
        )
        return [item.tile for item in picked]

    def noise(self, side_px: int) -> NDArray[np.uint8]:
        return self.rng.integers(0, 256, (side_px, side_px, 3), np.uint8)

    def runner(self, model: bytes, precision: str, engine: str = "onnxruntime") -> ModelRunner:
        return ModelRunner(model, self.card, engine, precision, self.threads)

    def check_parity(self, keras_model: Any, fp32: bytes, tiles: list[NDArray[np.uint8]]) -> Parity:
        side_px = -(-64 // self.card.stride) * self.card.stride
        images = [*tiles[:_PARITY_TILES], self.noise(side_px)]
        runner = self.runner(fp32, "fp32")
        parity = measure_parity(keras_predict(keras_model, self.channels), runner, images)
        runner.close()
        _LOG.info(
            "parity with Keras: largest difference %.1e over %d tiles",
            parity.max_difference, parity.tiles,
        )  # fmt: skip
        parity.check()
        return parity

    def measure_reach(
        self, graph: onnx.ModelProto, fp32: bytes, tiles: list[NDArray[np.uint8]]
    ) -> ReceptiveField:
        side_px = probe_side(graph)
        real = [_fit(tile, side_px) for tile in tiles[:_PROBE_PAIRS]]
        images = [self.noise(side_px) for _ in range(_PROBE_PAIRS)]
        # Noise beside noise, noise beside tissue, tissue beside tissue.
        pairs = [*images, *(image for pair in zip(real, images, strict=False) for image in pair)]
        runner = self.runner(fp32, "fp32")
        found = measure_reach(graph, runner, [*pairs, *real])
        runner.close()
        _LOG.info(
            "receptive field past an edge: measured %d px, at most %d px by structure",
            found.measured_px, found.bound_px,
        )  # fmt: skip
        return found

    def choose_int8(
        self,
        graph: onnx.ModelProto,
        tiles: list[NDArray[np.uint8]],
        select: dict[str, list[LabelledImage]],
    ) -> tuple[Int8Choice, ...]:
        """Choose one int8 file for each kind of engine that was asked for."""
        schemes = [s for s, target in _TARGET_OF_SCHEME.items() if target in self.options.targets]
        if "int8" not in self.options.precisions or not schemes:
            return ()
        lab = Int8Lab.prepare(graph, self.card, tiles, select, self.runner)
        return tuple(
            choose_int8(
                lab, self.options.methods, self.runner_of(scheme), scheme, self.options.min_quality
            )
            for scheme in schemes
        )

    def runner_of(self, scheme: str) -> Callable[[bytes, str], Runner]:
        """Return what makes runners: there is no TensorRT engine to run where bundles are made."""
        if scheme == "s8s8":
            return lambda model, _: SimulatedRunner(model, self.card, self.threads)
        return self.runner

    def int8_variant(
        self,
        choice: Int8Choice,
        reference: list[Score],
        evaluate: dict[str, list[LabelledImage]],
    ) -> Variant:
        """Measure an int8 file against fp32 and describe it."""
        if choice.scheme == "s8s8":
            runner = SimulatedRunner(choice.model, self.card, self.threads)
            scores = [score_images(runner, images, self.card, n) for n, images in evaluate.items()]
            reference = [s.by(SIMULATED) for s in reference if s.quality.engine == "onnxruntime"]
        else:
            scores = self.score(choice.model, "int8", evaluate)
        kept = versus_fp32(scores, reference) if evaluate else None
        file = f"model.int8.{choice.scheme}.onnx"
        return _variant(file, choice.model, "int8", scores, kept, choice.scheme)

    def report_int8(self, choices: tuple[Int8Choice, ...]) -> None:
        """Write the report, also where the bundle is then refused."""
        if choices:
            title = f"{self.card.name} {self.card.version}"
            path = write_report(self.options.output, title, choices, self.options.min_quality)
            _LOG.info("wrote %s", path)

    def score(
        self, model: bytes, precision: str, datasets: dict[str, list[LabelledImage]]
    ) -> list[Score]:
        """Score an ONNX file on every data set by every engine at hand that runs it on the CPU."""
        names = [
            name
            for name, entry in ENGINES.items()
            if entry.is_available()
            and (needs := entry.runs.get(precision)) is not None
            and (needs.format, needs.scheme or "u8s8") == ("onnx", "u8s8")
        ]
        scores = []
        for engine in names if datasets else []:
            runner = self.runner(model, precision, engine)
            for dataset, images in datasets.items():
                scores.append(score_images(runner, images, self.card, dataset))
                _LOG.info("quality of %s on %s: %s", precision, dataset, _words(scores[-1]))
            runner.close()
        return scores

    def check_quality(self, variant: Variant, choice: Int8Choice) -> None:
        kept = choice.kept if variant.retained is None else variant.retained
        if kept >= self.options.min_quality:
            return
        if not (self.options.evaluate or self.options.select):
            _LOG.warning("int8 %s agrees with fp32 by %.4f only", choice.scheme, kept)
        else:
            raise ExportError(
                f"int8 must keep {self.options.min_quality:.3f} of the fp32 quality. Received: "
                f"{kept:.4f} by {choice.scheme}, ranges {choice.method!r}, "
                f"{len(choice.given_back)} layers given back to float; scores {choice.scores}.",
                hint=f"See {report_path(self.options.output)}. Give more, and more varied, "
                "--representative images, or lower --min-quality.",
            )

    def manifest(
        self,
        variants: list[Variant],
        reach: ReceptiveField,
        parity: Parity,
        choices: tuple[Int8Choice, ...],
        tiles: int,
    ) -> Manifest:
        halo_px = choose_halo(reach, self.options.halo_tolerance)
        stride = self.card.stride
        exact = halo_px >= reach.exact_halo_px
        notes: dict[str, Any] = {
            "source_sha256": hashlib.sha256(self.keras_file.read_bytes()).hexdigest(),
            "versions": {name: version(name) for name in ("keras", "onnx", "onnxruntime")},
            "parity_max_difference": float(f"{parity.max_difference:.2e}"),
            "receptive_field_bound_px": reach.bound_px,
        }
        for choice in choices:
            notes[f"int8_{choice.scheme}"] = {
                "ranges": choice.method,
                "scores": choice.scores,
                "scored_on": choice.scored_on,
                "given_back_to_float": [step.layer for step in choice.given_back],
                "representative_tiles": tiles,
            }
        return Manifest(
            **self.card.model_dump(exclude={"provenance"}),
            provenance={**self.card.provenance, "export": notes},
            halo_px=-(-halo_px // stride) * stride,
            receptive_field_px=reach.measured_px,
            halo_tolerance=0.0 if exact else self.options.halo_tolerance,
            variants=tuple(variants),
        )


def _check(options: ExportOptions) -> None:
    unknown = sorted(set(options.precisions) - set(_PRECISIONS))
    if unknown:
        raise ExportError(f"precision must be one of {_PRECISIONS}. Received: {unknown}.")
    _check_targets(options.targets)
    if options.compute_capabilities and "tensorrt" not in options.targets:
        raise ExportError(
            "Engines are built from the file for TensorRT. "
            f"Received: compute_capability={list(options.compute_capabilities)}, "
            f"target={list(options.targets)}.",
            hint="Add --target tensorrt.",
        )
    if "int8" in options.precisions and not options.representative:
        raise ExportError(
            "int8 needs representative images. Received: none.",
            hint="Name folders of training images with --representative, or use --precision fp32.",
        )


def _check_targets(targets: tuple[str, ...]) -> None:
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown or not targets:
        raise ExportError(f"target must be one of {TARGETS}. Received: {list(targets)}.")


def _check_disjoint(
    select: dict[str, list[LabelledImage]], evaluate: dict[str, list[LabelledImage]]
) -> None:
    """Refuse to choose by the very images that quality is then reported on."""
    reported = {content_hash(item.path) for images in evaluate.values() for item in images}
    for name, images in select.items():
        shared = [item.path.name for item in images if content_hash(item.path) in reported]
        if shared:
            raise ExportError(
                "Images that choose must not be those that quality is reported on. "
                f"Received: {len(shared)} of {name!r} in both, e.g. {shared[0]}."
            )


def _load_keras(path: Path) -> Any:
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        raise ExportError(f"{KERAS_FILE} must be a Keras 3 model. Received: {error}.") from error


def _variant(
    file: str,
    data: bytes,
    precision: str,
    scores: list[Score],
    kept: VersusFp32 | None = None,
    scheme: str | None = None,
) -> Variant:
    return Variant.model_validate(
        {
            "file": file,
            "format": "onnx",
            "precision": precision,
            "scheme": scheme,
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "quality": [score.quality for score in scores],
            "vs_fp32": kept,
        }
    )


def _fit(tile: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Cut a tile to a square, or repeat it mirrored until it fills one."""
    missing = [max(0, side_px - size) for size in tile.shape[:2]]
    filled = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(filled[:side_px, :side_px])


def _words(score: Score) -> str:
    quality = score.quality
    text = ", ".join(f"Dice {name} {value:.4f}" for name, value in quality.dice.items())
    if quality.object_f1 is not None:
        text += f", F1 {quality.object_f1:.4f}, count error {quality.count_error:.4f}"
    return f"{text} ({quality.images} images, {quality.engine})"
