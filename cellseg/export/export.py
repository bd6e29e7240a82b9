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
from cellseg.export.int8 import Int8Choice, choose_int8
from cellseg.export.labelled import LabelledImage, read_labelled
from cellseg.export.options import ExportOptions, ExportReport
from cellseg.export.parity import Parity, keras_predict, measure_parity
from cellseg.export.quality import ModelRunner, Score, score_images, versus_fp32
from cellseg.export.reach import total_stride
from cellseg.export.receptive_field import (
    ReceptiveField,
    choose_halo,
    measure_reach,
    probe_side,
)
from cellseg.export.representative import content_hash, find_images, pick_tiles
from cellseg.export.translate import float_graph
from cellseg.runtime.bundle import Manifest, Variant, write_bundle
from cellseg.runtime.engines import ENGINES
from cellseg.runtime.machine import usable_cores
from cellseg.runtime.normalize import Normalize

if TYPE_CHECKING:
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from cellseg.export.representative import RepresentativeTile
    from cellseg.runtime.bundle import VersusFp32

__all__ = ["ExportOptions", "ExportReport", "export_run"]

_LOG = logging.getLogger(__name__)
FP32_FILE, INT8_FILE = "model.fp32.onnx", "model.int8.u8s8.onnx"
_PRECISIONS = ("fp32", "int8")
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
        choice = self.choose_int8(graph, fp32, tiles, select)
        scores = {"fp32": self.score(fp32, "fp32", evaluate)}
        variants = [_variant(FP32_FILE, fp32, "fp32", scores["fp32"])]
        files = {FP32_FILE: fp32}
        if choice is not None:
            scores["int8"] = self.score(choice.model, "int8", evaluate)
            kept = versus_fp32(scores["int8"], scores["fp32"]) if evaluate else None
            variants.append(_variant(INT8_FILE, choice.model, "int8", scores["int8"], kept))
            files[INT8_FILE] = choice.model
            self.check_quality(variants[-1], choice)
        manifest = self.manifest(variants, reach, parity, choice, len(tiles))
        bundle = write_bundle(self.options.output, manifest, files)
        _LOG.info("wrote %s (%.1f MB)", bundle.path, bundle.path.stat().st_size / 1e6)
        return ExportReport(bundle, parity, reach, choice, len(tiles))

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
        fp32: bytes,
        tiles: list[NDArray[np.uint8]],
        select: dict[str, list[LabelledImage]],
    ) -> Int8Choice | None:
        if "int8" not in self.options.precisions:
            return None
        return choose_int8(
            graph, self.card, tiles, select, self.options.methods,
            runner=lambda model, precision: self.runner(model, precision),
        )  # fmt: skip

    def score(
        self, model: bytes, precision: str, datasets: dict[str, list[LabelledImage]]
    ) -> list[Score]:
        """Score a variant on every data set by every engine at hand that runs it."""
        names = [n for n, e in ENGINES.items() if e.is_available() and precision in e.runs]
        scores = []
        for engine in names if datasets else []:
            runner = self.runner(model, precision, engine)
            for dataset, images in datasets.items():
                scores.append(score_images(runner, images, self.card, dataset))
                _LOG.info("quality of %s on %s: %s", precision, dataset, _words(scores[-1]))
            runner.close()
        return scores

    def check_quality(self, variant: Variant, choice: Int8Choice) -> None:
        kept = variant.retained
        if kept is not None and kept < self.options.min_quality:
            raise ExportError(
                f"int8 must keep {self.options.min_quality:.3f} of the fp32 quality. Received: "
                f"{kept:.4f} by ranges {choice.method!r}; scores {choice.scores}.",
                hint="Give more, and more varied, --representative images, or lower --min-quality.",
            )

    def manifest(
        self,
        variants: list[Variant],
        reach: ReceptiveField,
        parity: Parity,
        choice: Int8Choice | None,
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
        if choice is not None:
            notes["int8"] = {
                "ranges": choice.method,
                "scores": choice.scores,
                "scored_on": choice.scored_on,
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
    if "int8" in options.precisions and not options.representative:
        raise ExportError(
            "int8 needs representative images. Received: none.",
            hint="Name folders of training images with --representative, or use --precision fp32.",
        )


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
    file: str, data: bytes, precision: str, scores: list[Score], kept: VersusFp32 | None = None
) -> Variant:
    return Variant.model_validate(
        {
            "file": file,
            "format": "onnx",
            "precision": precision,
            "scheme": "u8s8" if precision == "int8" else None,
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
