"""The table of engines: what each needs installed, and which variants it runs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cellseg.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cellseg.runtime.bundles.bundle import Variant

__all__ = ["ENGINES", "EngineEntry", "Needs", "reinstall_line", "version_of"]


@dataclass(frozen=True)
class Needs:
    """The variant that an engine runs at a precision."""

    format: str
    """``onnx`` or ``tflite``."""

    precision: str
    """Precision of the file; the engine may compute in another (bf16 from an fp32 file)."""

    scheme: str | None = None
    """Signedness of an int8 file."""

    def pick(self, variants: Iterable[Variant]) -> Variant | None:
        """Return the first variant that fits; a file that states no scheme is taken."""
        for variant in variants:
            same = (variant.format, variant.precision) == (self.format, self.precision)
            if same and variant.scheme in (None, self.scheme):
                return variant
        return None


@dataclass(frozen=True)
class EngineEntry:
    """One engine, known before anything of it is imported."""

    module: str
    """Module of the adapter."""

    class_name: str
    """Adapter: called with (model bytes, EngineOptions)."""

    import_name: str
    """Package that must be importable."""

    pip: str
    """What to install."""

    runs: Mapping[str, Needs]
    """Precision to the variant it needs."""

    also: tuple[str, ...] = ()
    """Packages that do instead of ``import_name``."""

    distributions: tuple[str, ...] = ()
    """Names under which a version may be installed; by default that of ``pip``."""

    wheels: tuple[str, ...] = ()
    """Distributions that hold its files; by default that of ``pip`` does."""

    needs_gpu: bool = False
    """Whether it runs on an NVIDIA GPU only."""

    @property
    def is_installed(self) -> bool:
        """Whether a package is there; nothing is imported."""
        return any(find_spec(name) is not None for name in (self.import_name, *self.also))

    def is_available(self) -> bool:
        """Tell whether it can run here: installed, without importing it, and a GPU if need be."""
        return self.is_installed and self.obstacle() is None

    def obstacle(self) -> str | None:
        """Say what this machine lacks, apart from packages; None if nothing."""
        if not self.needs_gpu:
            return None
        from cellseg.runtime.engines.cuda import gpu_obstacle

        return gpu_obstacle()

    @property
    def installed_version(self) -> str | None:
        """Version of the package, None if it is missing."""
        found = map(version_of, self.distributions or (self.pip,))
        return next((known for known in found if known is not None), None)

    @property
    def reinstall(self) -> str:
        """Command that mends a package that is there and does not load."""
        return reinstall_line(*(self.wheels or (self.pip,)))

    def require(self, name: str) -> None:
        """Raise EngineError if the package, or the GPU, is missing; with what mends it."""
        if not self.is_installed:
            wanted = " or ".join(map(repr, (self.import_name, *self.also)))
            raise EngineError(
                f"engine {name!r} needs the package {wanted}. Received: not installed.",
                hint=f"pip install {self.pip}",
            )
        if lacking := self.obstacle():
            raise EngineError(
                f"engine {name!r} must find a GPU. {lacking}",
                hint="Use --engine auto, or see 'cellseg-cli doctor'.",
            )

    def load(self, name: str) -> Any:
        """Import the adapter.

        Raises
        ------
        EngineError
            If the package is missing or broken.
        """
        self.require(name)
        try:
            return getattr(import_module(self.module), self.class_name)
        except Exception as error:  # a broken native library may raise anything
            raise EngineError(
                f"engine {name!r} must be importable. Received: {error}.",
                hint=self.reinstall,
            ) from error


def version_of(distribution: str) -> str | None:
    """Version of an installed distribution, None if it is missing."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def reinstall_line(*wheels: str) -> str:
    """Return the command that lays the files of distributions anew, in the versions there are."""
    # What they need is left alone: pip would bring the newest NumPy, which numba may not take.
    found = ((name, version_of(name)) for name in wheels)
    pinned = (name if known is None else f"{name}=={known}" for name, known in found)
    return f"pip install --force-reinstall --no-deps {' '.join(pinned)}"


_CPU = {"fp32": Needs("onnx", "fp32"), "int8": Needs("onnx", "int8", "u8s8")}

ENGINES: dict[str, EngineEntry] = {
    "openvino": EngineEntry(
        module="cellseg.runtime.engines.openvino",
        class_name="OpenVinoEngine",
        import_name="openvino",
        pip="openvino",
        runs=_CPU | {"bf16": Needs("onnx", "fp32")},
    ),
    "onnxruntime": EngineEntry(
        module="cellseg.runtime.engines.onnxruntime",
        class_name="OnnxRuntimeEngine",
        import_name="onnxruntime",
        pip="onnxruntime",
        runs=_CPU,
    ),
    "litert": EngineEntry(
        module="cellseg.runtime.engines.litert",
        class_name="LiteRtEngine",
        import_name="ai_edge_litert",
        pip="ai-edge-litert",
        runs={"fp32": Needs("tflite", "fp32"), "int8": Needs("tflite", "int8")},
    ),
    "tensorrt": EngineEntry(
        module="cellseg.runtime.engines.tensorrt",
        class_name="TensorRtEngine",
        import_name="tensorrt",
        pip="tensorrt-rtx-cu13",
        # fp32 is left out: the cast of its image comes after a transpose, which TensorRT refuses.
        runs={"int8": Needs("onnx", "int8", "s8s8"), "fp16": Needs("onnx", "fp16")},
        also=("tensorrt_rtx",),
        distributions=(
            *("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
            *("tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
        ),
        wheels=("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings"),
        needs_gpu=True,
    ),
}
