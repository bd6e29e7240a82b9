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
from cellseg.export.int8 import Int8Choice, Int8Lab, choose_int8, choose_tflite_int8
from cellseg.export.model_file import ModelFile
from cellseg.export.options import ExportOptions, ExportReport
from cellseg.export.parity import MAX_DIFFERENCE, Parity, measure_parity
from cellseg.export.ranges import collect_distributions
from cellseg.export.reach import total_stride, whole_tile_nodes
from cellseg.export.receptive_field import (
    ReceptiveField,
    choose_halo,
    measure_reach,
    probe_side,
)
from cellseg.export.representative import content_hash, pick_tiles
from cellseg.export.scoring import Scorer
from cellseg.export.simulate import SimulatedRunner
from cellseg.export.source import open_source
from cellseg.export.sqnr_report import report_path, write_report
from cellseg.export.translate import for_onnx
from cellseg.runtime.bundle import Manifest, Variant, write_bundle
from cellseg.runtime.labelled import LabelledImage, find_images, read_labelled
from cellseg.runtime.machine import usable_cores
from cellseg.runtime.normalize import Normalize
from cellseg.runtime.quality import ModelRunner, Runner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from cellseg.export.float16 import Largest
    from cellseg.export.representative import RepresentativeTile
    from cellseg.export.tensorrt import EngineFile
    from cellseg.runtime.bundle import Bundle

__all__ = ["ExportOptions", "ExportReport", "export_run"]

_LOG = logging.getLogger(__name__)
_TARGET_OF_SCHEME = {"u8s8": "onnx", "s8s8": "tensorrt"}
_PRECISIONS = ("fp32", "fp16", "int8")
TARGETS = ("onnx", "tflite", "tensorrt")
_PARITY_TILES = 8
_PROBE_PAIRS = 8
_PROBE_PX = {"noise": 4_000_000, "real": 24_000_000}  # so many of each, in all


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
        self.source = open_source(options)
        self.card = self.source.card
        spec = self.card.input.normalize
        self.normalize = Normalize(spec.kind, spec.low, spec.high)
        self.threads = options.threads or usable_cores()
        self.rng = np.random.default_rng(options.seed)
        self.parities: dict[str, Parity] = {}
        self.largest: Largest | None = None

    def run(self) -> ExportReport:
        plain = self.source.plain
        graph = for_onnx(plain)
        self.check_stride(total_stride(graph))
        fp32 = graph.SerializeToString()
        evaluate = self.read_datasets(self.options.evaluate)
        select = self.read_datasets(self.options.select)
        _check_disjoint(select, evaluate)
        tiles = self.pick_tiles()
        parity = self.check_parity(ModelFile(fp32, "fp32"), "onnxruntime", tiles)
        reach = self.measure_reach(graph, fp32, tiles)
        files = [ModelFile(fp32, "fp32"), *self.float_files(plain, graph, tiles)]
        files += self.int8_files(plain, graph, tiles, select)
        scorer = Scorer(self.card, evaluate, self.threads)
        variants = [scorer.score(file) for file in files]
        choices = tuple(file.choice for file in files if file.choice is not None)
        self.report_int8(choices)
        for variant, file in zip(variants, files, strict=True):
            self.check_quality(variant, file.choice)
        manifest = self.manifest(variants, reach, parity, choices, len(tiles))
        bundle = write_bundle(
            self.options.output, manifest, {file.name: file.data for file in files}
        )
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

    @property
    def tile_px(self) -> int:
        """Side of a representative tile: no more than the network ever saw of an image."""
        stride, fit_px = self.card.stride, self.card.input.fit_px or ()
        most_px = min((self.options.tile_px, *fit_px))
        return int(max(1, most_px // stride) * stride)

    def pick_tiles(self) -> list[NDArray[np.uint8]]:
        if not self.options.representative:
            return []
        held_out = {
            content_hash(path)
            for _, folder in (*self.options.evaluate, *self.options.select)
            for path in find_images(folder / "images")
        }
        spec = self.card.input
        picked: list[RepresentativeTile] = pick_tiles(
            self.options.representative,
            self.normalize,
            self.options.tiles,
            self.tile_px,
            self.options.seed,
            held_out,
            {"native": (None,), "whole": (spec.fit_px,), "both": (spec.fit_px, None)}[spec.fit],
        )
        return [item.tile for item in picked]

    def noise(self, side_px: int) -> NDArray[np.uint8]:
        return self.rng.integers(0, 256, (side_px, side_px, 3), np.uint8)

    def runner(self, model: bytes, precision: str, engine: str = "onnxruntime") -> ModelRunner:
        return ModelRunner(model, self.card, engine, precision, self.threads)

    def check_parity(self, file: ModelFile, engine: str, tiles: list[NDArray[np.uint8]]) -> Parity:
        """Compare a file with its source, noise included; float32 ones must agree."""
        side_px = -(-64 // self.card.stride) * self.card.stride
        noise = np.random.default_rng(self.options.seed).integers(0, 256, (side_px, side_px, 3))
        images = [*tiles[:_PARITY_TILES], noise.astype(np.uint8)]
        if self.source.tile_hw is not None:
            images = [_fit(image, self.source.tile_hw) for image in images]
        runner = self.runner(file.data, file.precision, engine)
        parity = measure_parity(self.source.predict, runner, images)
        runner.close()
        _LOG.info(
            "parity of %s with %s: largest difference %.1e over %d tiles",
            file.name, self.source.file.name, parity.max_difference, parity.tiles,
        )  # fmt: skip
        parity.check(MAX_DIFFERENCE if file.precision == "fp32" else 1.0)
        self.parities[file.name] = parity
        return parity

    def float_files(
        self,
        plain: onnx.ModelProto,
        graph: onnx.ModelProto,
        tiles: list[NDArray[np.uint8]],
    ) -> list[ModelFile]:
        """Make the float files beside that of fp32, and compare them with the source."""
        files = []
        if "fp16" in self.options.precisions:
            from cellseg.export.float16 import to_float16

            half, self.largest = to_float16(graph, collect_distributions(graph, tiles))
            _LOG.info("float16: largest value %.4g at %r", self.largest.value, self.largest.layer)
            files.append(ModelFile(half.SerializeToString(), "fp16"))
            self.check_parity(files[-1], "onnxruntime", tiles)
        if "tflite" in self.options.targets:
            from cellseg.export.tflite import float_tflite

            files.append(ModelFile(float_tflite(plain), "fp32", "tflite"))
            self.check_parity(files[-1], "litert", tiles)
        return files

    def measure_reach(
        self, graph: onnx.ModelProto, fp32: bytes, tiles: list[NDArray[np.uint8]]
    ) -> ReceptiveField:
        side_px = probe_side(graph)
        noises, reals = (
            max(2, min(_PROBE_PAIRS, budget // (6 * side_px * min(side_px, 512))))
            for budget in _PROBE_PX.values()  # a pair is run six times
        )
        real = [_fit(tile, (side_px, side_px)) for tile in tiles[:reals]]
        images = [self.noise(side_px) for _ in range(noises)]
        # Noise beside noise, noise beside tissue, tissue beside tissue.
        pairs = [*images, *(image for pair in zip(real, images, strict=False) for image in pair)]
        if whole_tile_nodes(graph) and len(real) > 1:
            pairs = []  # a mean over noise is like no slide's
        runner = self.runner(fp32, "fp32")
        found = measure_reach(graph, runner, [*pairs, *real])
        runner.close()
        if found.whole_tile:
            _LOG.warning(
                "%s looks at the whole tile: tiles differ from the whole image, measured up to "
                "%.3g", found.whole_tile[0], found.change_at[found.bound_px :].max(initial=0.0),
            )  # fmt: skip
        _LOG.info(
            "receptive field past an edge: measured %d px, at most %d px by structure",
            found.measured_px, found.bound_px,
        )  # fmt: skip
        return found

    def int8_files(
        self,
        plain: onnx.ModelProto,
        graph: onnx.ModelProto,
        tiles: list[NDArray[np.uint8]],
        select: dict[str, list[LabelledImage]],
    ) -> list[ModelFile]:
        """Choose one int8 file for each kind of engine that was asked for."""
        if "int8" not in self.options.precisions:
            return []
        lab = Int8Lab.prepare(graph, self.card, tiles, select, self.runner)
        methods, files = self.options.methods, []
        for scheme, target in _TARGET_OF_SCHEME.items():
            if target in self.options.targets:
                runner = self.runner_of(scheme)
                choice = choose_int8(lab, methods, runner, scheme, self.options.min_quality)
                files.append(ModelFile(choice.model, "int8", scheme=scheme, choice=choice))
        if "tflite" in self.options.targets:
            from cellseg.export.tflite import int8_tflite

            choice = choose_tflite_int8(
                lab,
                lambda method: int8_tflite(plain, lab.distributions, method),
                methods,
                lambda model, precision: self.runner(model, precision, "litert"),
            )
            files.append(ModelFile(choice.model, "int8", "tflite", choice=choice))
        return files

    def runner_of(self, scheme: str) -> Callable[[bytes, str], Runner]:
        """Return what makes runners: there is no TensorRT engine to run where bundles are made."""
        if scheme == "s8s8":
            return lambda model, _: SimulatedRunner(model, self.card, self.threads)
        return self.runner

    def report_int8(self, choices: tuple[Int8Choice, ...]) -> None:
        """Write the report, also where the bundle is then refused."""
        if choices:
            title = f"{self.card.name} {self.card.version}"
            path = write_report(self.options.output, title, choices, self.options.min_quality)
            _LOG.info("wrote %s", path)

    def check_quality(self, variant: Variant, choice: Int8Choice | None) -> None:
        kept, how = variant.retained, "rounding to float16"
        if choice is not None:
            kept = choice.kept if kept is None else kept
            how = (
                f"{choice.scheme}, ranges {choice.method!r}, "
                f"{len(choice.given_back)} layers given back to float; scores {choice.scores}"
            )
        if variant.precision == "fp32" or kept is None or kept >= self.options.min_quality:
            return
        if not (self.options.evaluate or self.options.select):
            _LOG.warning("%s agrees with fp32 by %.4f only", variant.file, kept)
        else:
            raise ExportError(
                f"{variant.precision} must keep {self.options.min_quality:.3f} of the fp32 "
                f"quality. Received: {kept:.4f} by {how}.",
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
        exact = halo_px >= reach.exact_halo_px and not reach.whole_tile
        notes: dict[str, Any] = {
            "source_sha256": hashlib.sha256(self.source.file.read_bytes()).hexdigest(),
            "versions": {
                name: version(name)
                for name in dict.fromkeys((self.source.framework, "onnx", "onnxruntime"))
            },
            "parity_max_difference": float(f"{parity.max_difference:.2e}"),
            "parity": {
                name: float(f"{found.max_difference:.2e}") for name, found in self.parities.items()
            },
            "receptive_field_bound_px": reach.bound_px,
        }
        if reach.whole_tile:
            notes["whole_tile"] = {
                "nodes": list(reach.whole_tile),
                "largest_change": float(reach.change_at[reach.bound_px :].max(initial=0.0)),
            }
        if self.largest is not None:
            notes["fp16"] = {"largest": self.largest.value, "at": self.largest.layer}
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
    if not options.run.exists():
        raise ExportError(
            f"What is exported must be there. Received: {options.run}.",
            hint="Name a run's folder, a .keras or an .onnx file.",
        )
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
    measured = [name for name in ("int8", "fp16") if name in options.precisions]
    if measured and not options.representative:
        raise ExportError(
            f"{measured[0]} needs representative images. Received: none.",
            hint="Name folders of training images with --representative, or use --precision fp32.",
        )


def _check_targets(targets: tuple[str, ...]) -> None:
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown or not targets:
        raise ExportError(f"target must be one of {TARGETS}. Received: {list(targets)}.")
    if "tflite" in targets:
        from cellseg.export.tflite import require_tensorflow

        require_tensorflow()


def _check_disjoint(
    select: dict[str, list[LabelledImage]], evaluate: dict[str, list[LabelledImage]]
) -> None:
    """Refuse to choose by the very images that quality is then reported on."""
    reported = {digest for images in evaluate.values() for digest in _files(images)}
    for name, images in select.items():
        shared = [file for digest, file in _files(images).items() if digest in reported]
        if shared:
            raise ExportError(
                "Images that choose must not be those that quality is reported on. "
                f"Received: {len(shared)} of {name!r} in both, e.g. {shared[0]}."
            )


def _files(images: list[LabelledImage]) -> dict[str, str]:
    """Name of each image's file, by its content."""
    paths = (item.path for item in images if item.path is not None)
    return {content_hash(path): path.name for path in paths}


def _fit(tile: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut a tile to a size, or repeat it mirrored until it has that."""
    missing = [max(0, wanted - size) for wanted, size in zip(hw, tile.shape[:2], strict=True)]
    filled = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(filled[: hw[0], : hw[1]])
