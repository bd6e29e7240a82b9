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

    from cellseg.runtime.bundle import Variant

__all__ = ["ENGINES", "EngineEntry", "Needs"]


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

    def is_available(self) -> bool:
        """Tell whether the package is installed, without importing it."""
        return find_spec(self.import_name) is not None

    @property
    def installed_version(self) -> str | None:
        """Version of the package, None if it is missing."""
        try:
            return version(self.pip)
        except PackageNotFoundError:
            return None

    def require(self, name: str) -> None:
        """Raise EngineError with the install line if the package is missing."""
        if not self.is_available():
            raise EngineError(
                f"engine {name!r} needs the package {self.import_name!r}. Received: not installed.",
                hint=f"pip install {self.pip}",
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
        except ImportError as error:
            raise EngineError(
                f"engine {name!r} must be importable. Received: {error}.",
                hint=f"pip install --force-reinstall {self.pip}",
            ) from error


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
}
