"""From a training run to a bundle: translate, check, measure, quantize, measure again, write.

Nothing is written unless every gate holds: parity with Keras, a receptive field within its bound,
and the quality asked for.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import ExportError
from cellseg.export.checks.parity import MAX_DIFFERENCE, Parity, measure_parity
from cellseg.export.checks.placement import check_placement
from cellseg.export.checks.probes import fit_tile, probe_images
from cellseg.export.checks.receptive_field import ReceptiveField, choose_halo, measure_reach
from cellseg.export.images.export_images import ExportImages, read_images
from cellseg.export.judging.floor import check_floor
from cellseg.export.judging.int8 import Int8Choice, Int8Lab, choose_int8, choose_tflite_int8
from cellseg.export.judging.judging import judges_of
from cellseg.export.judging.model_file import ModelFile
from cellseg.export.judging.scoring import REFERENCE, Scorer, engines_of
from cellseg.export.judging.sqnr_report import report_path, write_report
from cellseg.export.onnx_graph.reach import total_stride
from cellseg.export.options import ExportOptions, check_options
from cellseg.export.precisions.ranges import collect_distributions
from cellseg.export.precisions.simulate import SimulatedRunner
from cellseg.export.provenance import Measured, export_notes
from cellseg.export.report import ExportReport
from cellseg.export.sources.source import open_source
from cellseg.export.sources.translate import for_onnx
from cellseg.runtime.bundles.bundle import Manifest, Variant, write_bundle
from cellseg.runtime.evaluation.quality import ModelRunner, Runner
from cellseg.runtime.machine.facts import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx
    from numpy.typing import NDArray

    from cellseg.export.judging.judging import Judging, Progress
    from cellseg.export.precisions.float16 import Largest
    from cellseg.export.targets.tensorrt import EngineFile
    from cellseg.runtime.bundles.bundle import Bundle

__all__ = ["ExportOptions", "ExportReport", "export_run"]

_LOG = logging.getLogger(__name__)
_TARGET_OF_SCHEME = {"u8s8": "onnx", "s8s8": "tensorrt"}
_PARITY_TILES = 8


def export_run(options: ExportOptions, progress: Progress | None = None) -> ExportReport:
    """Export a trained Keras model to a bundle.

    Parameters
    ----------
    options : ExportOptions
        What to export, and what to measure it on.
    progress : callable, optional
        Is told what goes on, how far it is, and how far it goes.

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
    check_options(options)
    return _Export(options, progress).run()


class _Export:
    """One export; its steps read top to bottom in `run`."""

    def __init__(self, options: ExportOptions, progress: Progress | None) -> None:
        self.options, self.progress = options, progress
        self.source = open_source(options)
        self.card = self.source.card
        self.threads = options.threads or usable_cores()
        self.parities: dict[str, Parity] = {}
        self.largest: Largest | None = None

    def run(self) -> ExportReport:
        plain = self.source.plain
        graph = for_onnx(plain)
        self.check_stride(total_stride(graph))
        fp32 = graph.SerializeToString()
        images = read_images(self.options, self.card)
        tiles = images.tiles
        self.check_parity(ModelFile(fp32, "fp32"), "onnxruntime", tiles)
        reach = self.measure_reach(graph, fp32, tiles)
        files = [ModelFile(fp32, "fp32"), *self.float_files(plain, graph, tiles)]
        choosing, reporting = self.judges(fp32, images)
        files += self.int8_files(plain, graph, tiles, choosing)
        scorer = Scorer(self.card, reporting, self.threads)
        variants = [scorer.score(file) for file in files]
        choices = tuple(file.choice for file in files if file.choice is not None)
        is_reported = self.write_report(choices, variants)
        for variant, file in zip(variants, files, strict=True):
            check_floor(self.options, variant, file.choice)
        held = len(reporting.images) if reporting.by_fp32 else 0
        measured = Measured(self.parities, reach, self.largest, choices, len(tiles), held)
        manifest = self.manifest(variants, measured)
        bundle = write_bundle(
            self.options.output, manifest, {file.name: file.data for file in files}
        )
        if not is_reported:  # what lies there is about the bundle that was replaced
            report_path(self.options.output).unlink(missing_ok=True)
        _LOG.info("wrote %s (%.1f MB)", bundle.path, bundle.path.stat().st_size / 1e6)
        return ExportReport(
            bundle, measured.parity, reach, choices, len(tiles), self.engines(bundle)
        )

    def engines(self, bundle: Bundle) -> tuple[EngineFile, ...]:
        """Build TensorRT engines beside the bundle, for the GPUs that were named."""
        capabilities = self.options.compute_capabilities
        if not capabilities:
            return ()
        from cellseg.export.targets.tensorrt import build_engines

        folder = self.options.output.parent
        return tuple(build_engines(bundle, capabilities, self.options.engine_tile_px, folder))

    def check_stride(self, stride: int) -> None:
        if self.card.stride % stride:
            raise ExportError(
                "model.json must state a multiple of the network's stride. "
                f"Received: stride={self.card.stride}, the network's is {stride}."
            )

    def runner(self, model: bytes, precision: str, engine: str = "onnxruntime") -> ModelRunner:
        return ModelRunner(model, self.card, engine, precision, self.threads)

    def check_parity(self, file: ModelFile, engine: str, tiles: list[NDArray[np.uint8]]) -> None:
        """Compare a file with its source, noise included; float32 ones must agree."""
        side_px = -(-64 // self.card.stride) * self.card.stride
        noise = np.random.default_rng(self.options.seed).integers(0, 256, (side_px, side_px, 3))
        images = [*tiles[:_PARITY_TILES], noise.astype(np.uint8)]
        if self.source.tile_hw is not None:
            images = [fit_tile(image, self.source.tile_hw) for image in images]
        runner = self.runner(file.data, file.precision, engine)
        parity = measure_parity(self.source.predict, runner, images)
        runner.close()
        _LOG.info(
            "parity of %s with %s: largest difference %.1e over %d tiles",
            file.name, self.source.file.name, parity.max_difference, parity.tiles,
        )  # fmt: skip
        parity.check(MAX_DIFFERENCE if file.precision == "fp32" else 1.0)
        self.parities[file.name] = parity

    def float_files(
        self,
        plain: onnx.ModelProto,
        graph: onnx.ModelProto,
        tiles: list[NDArray[np.uint8]],
    ) -> list[ModelFile]:
        """Make the float files beside that of fp32, and compare them with the source."""
        files = []
        if "fp16" in self.options.precisions:
            from cellseg.export.precisions.float16 import to_float16

            half, self.largest = to_float16(graph, collect_distributions(graph, tiles))
            _LOG.info("float16: largest value %.4g at %r", self.largest.value, self.largest.layer)
            files.append(ModelFile(half.SerializeToString(), "fp16"))
            self.check_parity(files[-1], "onnxruntime", tiles)
        if "tflite" in self.options.targets:
            from cellseg.export.targets.tflite import float_tflite

            files.append(ModelFile(float_tflite(plain), "fp32", "tflite"))
            self.check_parity(files[-1], "litert", tiles)
        return files

    def measure_reach(
        self, graph: onnx.ModelProto, fp32: bytes, tiles: list[NDArray[np.uint8]]
    ) -> ReceptiveField:
        runner = self.runner(fp32, "fp32")
        found = measure_reach(graph, runner, probe_images(graph, tiles, self.options.seed))
        if not found.whole_tile:
            check_placement(runner, found.stride, found.exact_halo_px, self.options.seed)
        runner.close()
        if found.whole_tile:
            _LOG.warning(
                "%s looks at the whole tile: tiles differ from the whole image, measured up to "
                "%.3g", found.whole_tile[0], found.far_change,
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
        choosing: Judging,
    ) -> list[ModelFile]:
        """Choose one int8 file for each kind of engine that was asked for."""
        if "int8" not in self.options.precisions:
            return []
        lab = Int8Lab.prepare(graph, tiles, choosing, self.runner)
        methods, files = self.options.methods, []
        for scheme, target in _TARGET_OF_SCHEME.items():
            if target in self.options.targets:
                runners = self.runners_of(scheme)
                choice = choose_int8(lab, methods, runners, scheme, self.options.floor)
                files.append(ModelFile(choice.model, "int8", scheme=scheme, choice=choice))
        if "tflite" in self.options.targets:
            from cellseg.export.targets.tflite import int8_tflite

            choice = choose_tflite_int8(
                lab,
                lambda method: int8_tflite(plain, lab.distributions, method),
                methods,
                lambda model, precision: self.runner(model, precision, "litert"),
            )
            files.append(ModelFile(choice.model, "int8", "tflite", choice=choice))
        return files

    def runners_of(self, scheme: str) -> list[Callable[[bytes, str], Runner]]:
        """Return what makes runners: there is no TensorRT engine to run where bundles are made."""
        if scheme == "s8s8":
            return [lambda model, _: SimulatedRunner(model, self.card, self.threads)]
        names = engines_of(ModelFile(b"", "int8", scheme=scheme))
        names.sort(key=lambda name: name != REFERENCE)  # it ranks: fp32 was run by it
        return [partial(self.runner, engine=name) for name in names]

    def judges(self, fp32: bytes, images: ExportImages) -> tuple[Judging, Judging]:
        """Return what chooses between int8 files, and what is reported."""
        return judges_of(
            images,
            self.card,
            lambda: self.runner(fp32, "fp32"),
            self.options.is_floor_asked,
            self.progress,
        )

    def write_report(self, choices: tuple[Int8Choice, ...], variants: list[Variant]) -> bool:
        """Write the report, also where the bundle is then refused; say whether there is one."""
        agreed = {item.file: item.agreement for item in variants if item.agreement}
        if not choices and not agreed:
            return False
        title = f"{self.card.name} {self.card.version}"
        path = write_report(self.options.output, title, choices, self.options.floor, agreed)
        _LOG.info("wrote %s", path)
        return True

    def manifest(self, variants: list[Variant], measured: Measured) -> Manifest:
        reach, stride = measured.reach, self.card.stride
        halo_px = choose_halo(reach, self.options.halo_tolerance)
        exact = halo_px >= reach.exact_halo_px and not reach.whole_tile
        notes = export_notes(self.source, measured)
        return Manifest(
            **self.card.model_dump(exclude={"provenance"}),
            provenance={**self.card.provenance, "export": notes},
            halo_px=-(-halo_px // stride) * stride,
            receptive_field_px=reach.measured_px,
            halo_tolerance=0.0 if exact else self.options.halo_tolerance,
            variants=tuple(variants),
        )
