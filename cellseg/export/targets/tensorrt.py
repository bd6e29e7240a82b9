"""TensorRT engines for GPUs that are not here, and whether they compute what was meant in int8.

TensorRT for RTX builds for a compute capability without the GPU. Engines are not part of a bundle:
each fits one TensorRT and one kind of GPU, and the runtime builds its own where it runs. These are
for devices that must not build, for programs that load engines themselves, and as the proof that
a bundle's files are what TensorRT takes: the report beside them says for every convolution in which
type it is computed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import Graph
from cellseg.runtime.engines.table import ENGINES
from cellseg.runtime.engines.tensorrt_api import TensorRt, find_tensorrt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellseg.runtime.bundles.bundle import Bundle, Variant
    from cellseg.runtime.engines.tensorrt_layers import LayerReport

__all__ = ["EngineFile", "build_engines", "int8_convolutions"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineFile:
    """An engine that was built, and what became of each convolution."""

    path: Path
    """The file."""

    precision: str
    """Of the variant it was built from."""

    capability: str
    """Compute capability it was built for, e.g. ``8.6``."""

    report: LayerReport
    """Its layers."""

    meant_int8: frozenset[str]
    """Convolutions that the variant has in int8."""

    @property
    def lost(self) -> tuple[str, ...]:
        """Convolutions that were meant to be int8 and are not."""
        return tuple(sorted(self.meant_int8.intersection(self.report.floats)))

    def to_json(self) -> dict[str, Any]:
        """Return as plain values."""
        plan = self.path.read_bytes()
        return {
            "file": self.path.name,
            "bytes": len(plan),
            "sha256": hashlib.sha256(plan).hexdigest(),
            "precision": self.precision,
            "compute_capability": self.capability,
            "int8_lost": list(self.lost),
            **self.report.to_json(),
        }


def build_engines(
    bundle: Bundle, capabilities: Sequence[str], tile_px: int, folder: Path
) -> list[EngineFile]:
    """Build an engine of each variant that TensorRT runs, for each compute capability.

    Parameters
    ----------
    bundle : Bundle
        With an fp16 or S8S8 variant.
    capabilities : sequence of str
        E.g. ``("8.6", "8.9", "12.0")``.
    tile_px : int
        Side of the tiles, a multiple of the model's stride.
    folder : Path
        Gets ``<bundle>.<precision>.sm<NN>.engine`` files and ``<bundle>.tensorrt.json``.

    Raises
    ------
    ExportError
        If the bundle has nothing for TensorRT, or the tile does not fit.
    EngineError
        If TensorRT for RTX is not installed, does not know a capability, or refuses a file.
    """
    tensorrt = find_tensorrt("tensorrt_rtx")
    variants = _variants(bundle)
    _check(bundle, variants, capabilities, tile_px)
    folder.mkdir(parents=True, exist_ok=True)
    built = []
    for precision, variant in variants.items():
        model = bundle.read_variant(variant.file)
        for capability in capabilities:
            stem = f"{bundle.path.stem}.{precision}.sm{capability.replace('.', '')}"
            path = folder / f"{stem}.engine"
            built.append(_build(tensorrt, model, path, precision, capability, tile_px))
    report = {
        "schema": "cellseg.tensorrt/1",
        "bundle_sha256": bundle.sha256,
        "package": tensorrt.name,
        "version": tensorrt.version,
        "tile_px": tile_px,
        "engines": [item.to_json() for item in built],
    }
    path = folder / f"{bundle.path.stem}.tensorrt.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return built


def int8_convolutions(model: bytes) -> frozenset[str]:
    """Names of the convolutions of an ONNX file whose weights are int8."""
    graph = Graph(onnx.load_from_string(model))
    makers = {node.name: graph.producer(node.input[1]) for node in graph.of_type("Conv")}
    return frozenset(
        name
        for name, maker in makers.items()
        if maker is not None and maker.op_type == "DequantizeLinear"
    )


def _build(
    tensorrt: TensorRt, model: bytes, path: Path, precision: str, capability: str, tile_px: int
) -> EngineFile:
    found = tensorrt.build(model, (tile_px, tile_px), capability)
    if found.report is None:
        raise ExportError(f"{tensorrt.name} must list an engine's layers. Received: no listing.")
    path.write_bytes(found.plan)
    engine = EngineFile(path, precision, capability, found.report, int8_convolutions(model))
    _LOG.info(
        "built %s: %d of %d convolutions in int8, %d layers, %d of them reformat",
        path.name, len(found.report.int8), len(found.convolutions), len(found.report.layers),
        len(found.report.reformats),
    )  # fmt: skip
    if engine.lost:
        _LOG.warning(
            "%s computes %d convolutions in floating point that are int8 in the model, e.g. %s",
            path.name, len(engine.lost), engine.lost[0],
        )  # fmt: skip
    return engine


def _variants(bundle: Bundle) -> dict[str, Variant]:
    """Variants that TensorRT runs, by precision."""
    runs = ENGINES["tensorrt"].runs
    picked = {precision: needs.pick(bundle.variants) for precision, needs in runs.items()}
    return {precision: found for precision, found in picked.items() if found is not None}


def _check(
    bundle: Bundle, variants: dict[str, Variant], capabilities: Sequence[str], tile_px: int
) -> None:
    if not variants:
        found = [variant.file for variant in bundle.variants]
        raise ExportError(
            f"A bundle must hold fp16 or S8S8 ONNX for TensorRT. Received: {found}.",
            hint="Export it with --target tensorrt.",
        )
    if not capabilities:
        raise ExportError(
            "Engines are built for compute capabilities. Received: none.",
            hint="Name them, e.g. --compute-capability 8.6,8.9,12.0.",
        )
    stride = bundle.manifest.stride
    if tile_px < 1 or tile_px % stride:
        raise ExportError(
            f"A tile must be a multiple of the model's stride, {stride}. Received: {tile_px}."
        )
