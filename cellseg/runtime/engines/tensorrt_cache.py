"""What a TensorRT engine depends on, and where engines that were built once are kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from cellseg.runtime.engines.built import BuiltFiles, digest_of

__all__ = ["PLANS", "EngineKey"]

PLANS = BuiltFiles("tensorrt", ".engine", kept=32)
"""Built engines; beside them, by their names, timing and runtime caches."""

_BUILD = 1  # raise it when engines are built in another way


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on."""

    model_sha256: str
    """Of the ONNX file."""

    package: str
    """``tensorrt`` or ``tensorrt_rtx``."""

    version: str
    """Of the package, in full."""

    gpu: str
    """Name of the GPU; empty for one that was built for without it."""

    capability: str
    """Compute capability, e.g. ``8.6``."""

    memory_mb: int
    """Memory of the GPU: tactics are chosen by it. 0 where built without the GPU."""

    driver: int
    """CUDA version of the driver; 0 where built without it."""

    tile_hw: tuple[int, int]
    """The profile: every tile's height and width."""

    flags: tuple[str, ...] = ("typed",)
    """How it was built."""

    build: int = _BUILD
    """Way of building."""

    @property
    def plain(self) -> dict[str, object]:
        """All of it, as plain values."""
        return asdict(self)

    @property
    def device_digest(self) -> str:
        """What measurements of tactics depend on: all but model and tile."""
        left_out = ("model_sha256", "tile_hw")
        return digest_of({name: fact for name, fact in self.plain.items() if name not in left_out})
