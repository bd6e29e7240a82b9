"""Both TensorRTs behind one face: the native one (10.3 to 11) and TensorRT for RTX.

Their Python interfaces are the same but for a few points, all of which are here:

=====================  =====================================  =================================
point                  native                                 for RTX
=====================  =====================================  =================================
package                ``tensorrt``, from NVIDIA or JetPack   ``tensorrt_rtx``, on the index
builds for             the GPU it runs on                     any of its GPUs, without one too
timing cache           saves minutes on the next build        nothing is timed
at the first tile      nothing                                kernels are compiled (runtime cache)
=====================  =====================================  =================================

Networks are strongly typed: precision stands in the ONNX graph and in no flag, since 11 has none.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from cellseg.errors import EngineError
from cellseg.runtime.engines.tensorrt_layers import (
    EngineLayer,
    LayerReport,
    layers_from_inspector,
    layers_from_log,
)

__all__ = ["PACKAGES", "Built", "TensorRt", "find_tensorrt"]

PACKAGES = ("tensorrt", "tensorrt_rtx")
INSTALL = "pip install tensorrt-rtx-cu13"
_OLDEST = (10, 3)


@dataclass(frozen=True)
class Built:
    """An engine file and what is known of it."""

    plan: bytes
    """The serialized engine."""

    report: LayerReport | None
    """Its layers; None where only an opened engine can tell them."""

    convolutions: tuple[str, ...]
    """ONNX names of the network's convolutions."""

    timing: bytes
    """Timing cache to begin the next build with; empty for RTX."""


class TensorRt:
    """One of the two packages.

    Parameters
    ----------
    module : module
        ``tensorrt`` or ``tensorrt_rtx``.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.is_rtx = module.__name__ == "tensorrt_rtx"
        self.version = str(module.__version__)
        self.name = "TensorRT for RTX" if self.is_rtx else "TensorRT"
        numbers = tuple(int(part) for part in re.findall(r"\d+", self.version)[:2])
        if not self.is_rtx and numbers < _OLDEST:
            raise EngineError(
                f"TensorRT must be {_OLDEST[0]}.{_OLDEST[1]} or newer. Received: {self.version}.",
                hint="Update JetPack, or install a newer TensorRT.",
            )

    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities that engines can be built for without the GPU; none by native."""
        kinds = dir(self.module.ComputeCapability) if self.is_rtx else []
        names = [name for name in kinds if re.fullmatch(r"SM\d+", name)]
        return tuple(_dotted(name) for name in sorted(names, key=lambda name: int(name[2:])))

    def require_capability(self, capability: str) -> None:
        """Raise EngineError, naming those it knows, if it does not build for that GPU."""
        known = self.capabilities()
        if capability not in known:
            raise EngineError(
                f"{self.name} {self.version} builds for compute capabilities {', '.join(known)}. "
                f"Received: {capability}.",
            )

    def build(
        self,
        onnx: bytes,
        tile_hw: tuple[int, int],
        capability: str | None = None,
        timing: bytes = b"",
    ) -> Built:
        """Build an engine for tiles of one shape.

        Parameters
        ----------
        onnx : bytes
            Typed ONNX file: fp16, or int8 by signed Q/DQ.
        tile_hw : (int, int)
            Height and width of every tile, in pixels.
        capability : str, optional
            Compute capability to build for, e.g. ``8.6`` (RTX only); by default this GPU's.
        timing : bytes
            What an earlier build gave.

        Raises
        ------
        EngineError
            If the file cannot be parsed or built; TensorRT's own words are given.
        """
        logger = _logger(self.module)
        builder = self.module.Builder(logger)
        # The parser is kept: it owns the weights until the engine is built.
        network, _parser = self._parse(builder, logger, onnx)
        config = builder.create_builder_config()
        config.profiling_verbosity = self.module.ProfilingVerbosity.DETAILED
        self._set_capability(config, capability)
        cache = self._set_timing(config, timing)
        shape = (1, *tile_hw, 3)
        profile = builder.create_optimization_profile()
        profile.set_shape(network.get_input(0).name, shape, shape, shape)
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise self._failed("build", logger)
        layers, convolutions = layers_from_log(logger.text), self._convolutions(network)
        return Built(
            plan=bytes(plan),
            report=LayerReport.of(layers, convolutions) if layers else None,
            convolutions=convolutions,
            timing=b"" if cache is None else bytes(config.get_timing_cache().serialize()),
        )

    def open_engine(self, plan: bytes) -> Any:
        """Return an ``ICudaEngine``, or None if the plan is of another version or GPU."""
        runtime = self.module.Runtime(_logger(self.module))
        engine = runtime.deserialize_cuda_engine(plan)
        return None if engine is None else _Opened(engine, runtime)

    def inspect(self, engine: Any) -> tuple[EngineLayer, ...]:
        """Return the layers of an opened engine."""
        kind = self.module.LayerInformationFormat.JSON
        text = engine.create_engine_inspector().get_engine_information(kind)
        return layers_from_inspector(text)

    def _parse(self, builder: Any, logger: Any, onnx: bytes) -> tuple[Any, Any]:
        flags = self.module.NetworkDefinitionCreationFlag
        typed = 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0
        network = builder.create_network(typed)
        parser = self.module.OnnxParser(network, logger)
        if not parser.parse(onnx):
            errors = [str(parser.get_error(i).desc()) for i in range(parser.num_errors)]
            raise self._failed("parse", logger, errors)
        if network.num_inputs != 1:
            raise self._failed("parse", logger, [f"a network of {network.num_inputs} inputs"])
        return network, parser

    def _set_capability(self, config: Any, capability: str | None) -> None:
        if not self.is_rtx:
            if capability is not None:
                raise EngineError(
                    "Native TensorRT builds for the GPU it runs on only. "
                    f"Received: compute capability {capability}.",
                    hint=f"{INSTALL} builds for other GPUs.",
                )
            return
        if capability is not None:
            self.require_capability(capability)
        name = "CURRENT" if capability is None else f"SM{capability.replace('.', '')}"
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(self.module.ComputeCapability, name), 0)

    def _set_timing(self, config: Any, timing: bytes) -> Any:
        if self.is_rtx:
            return None
        cache = config.create_timing_cache(timing)
        # False: measurements of another GPU or version are not taken over.
        return cache if config.set_timing_cache(cache, False) else None

    def _convolutions(self, network: Any) -> tuple[str, ...]:
        kind = self.module.LayerType.CONVOLUTION
        layers = (network.get_layer(i) for i in range(network.num_layers))
        return tuple(layer.name for layer in layers if layer.type == kind)

    def _failed(self, verb: str, logger: Any, more: list[str] | None = None) -> EngineError:
        words = [*(more or []), *logger.errors, "it gave no reason"][0]
        # Without a GPU it also complains of that, everywhere.
        told = [line for line in words.splitlines() if "cudaError 35" not in line] or [words]
        return EngineError(
            f"{self.name} {self.version} must be able to {verb} the model. "
            f"Received: {'; '.join(told)}",
            hint="'cellseg-cli doctor' says what does not fit here.",
        )


class _Opened:
    """An engine together with its runtime, which must not die before it."""

    def __init__(self, engine: Any, runtime: Any) -> None:
        self._engine, self._runtime = engine, runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def find_tensorrt(name: str | None = None) -> TensorRt:
    """Import the native package where there is one, else that for RTX.

    Parameters
    ----------
    name : str, optional
        One of ``PACKAGES``; by default the first that works.

    Raises
    ------
    EngineError
        If there is none, or none that loads.
    """
    failed = []
    for package in PACKAGES if name is None else (name,):
        if find_spec(package) is None:
            continue
        try:
            return TensorRt(importlib.import_module(package))
        except (ImportError, OSError, AttributeError, EngineError) as error:
            failed.append(f"{package}: {error}")
    raise EngineError(
        f"TensorRT needs the package {' or '.join(PACKAGES)}. "
        f"Received: {'; '.join(failed) or 'not installed'}.",
        hint=INSTALL,
    )


def _dotted(name: str) -> str:
    return f"{name[2:-1]}.{name[-1]}"


def _logger(module: Any) -> Any:
    """Return a logger that keeps what is said; the listing of layers is among it."""

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.lines: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append(message)
            if severity in (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR):
                self.errors.append(message)

        @property
        def text(self) -> str:
            return "\n".join(self.lines)

    return Logger()
