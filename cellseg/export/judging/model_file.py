"""A model file on its way into a bundle."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.runtime.bundles.bundle import Variant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellseg.export.judging.int8 import Int8Choice
    from cellseg.runtime.bundles.bundle import Agreement, VersusFp32
    from cellseg.runtime.evaluation.quality import Score

__all__ = ["ModelFile"]


@dataclass(frozen=True)
class ModelFile:
    """Bytes, and what they are."""

    data: bytes
    """The file."""

    precision: str
    """``fp32``, ``fp16`` or ``int8``."""

    format: str = "onnx"
    """``onnx`` or ``tflite``."""

    scheme: str | None = None
    """Signedness of an int8 ONNX file."""

    choice: Int8Choice | None = None
    """How an int8 file was chosen."""

    @property
    def name(self) -> str:
        """File name in the bundle."""
        parts = ("model", self.precision, self.scheme, self.format)
        return ".".join(part for part in parts if part is not None)

    def variant(
        self,
        scores: Sequence[Score],
        kept: VersusFp32 | None,
        agreement: Sequence[Agreement] = (),
    ) -> Variant:
        """Entry of the manifest, with what was measured."""
        return Variant.model_validate(
            {
                "file": self.name,
                "format": self.format,
                "precision": self.precision,
                "scheme": self.scheme,
                "sha256": hashlib.sha256(self.data).hexdigest(),
                "bytes": len(self.data),
                "quality": [score.quality for score in scores],
                "vs_fp32": kept,
                "agreement": agreement,
            }
        )
