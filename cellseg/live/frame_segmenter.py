"""One model on frames of changing shapes: plans, engines and buffers are kept from frame to frame."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import CellsegError
from cellseg.runtime.bundle import Bundle
from cellseg.runtime.segmenter import Segmenter, infer_options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.live.frame import Frame
    from cellseg.runtime.job import OpenEngine

__all__ = ["FrameSegmenter", "Seen"]


@dataclass(frozen=True, eq=False)
class Seen:
    """What the model sees in a frame; fields as in `cellseg.live.result.FrameResult`."""

    classes: NDArray[np.uint8]
    labels: NDArray[np.uint32] | None
    counts: Mapping[str, int]
    focus: float
    engine_ms: float
    cells: NDArray[Any] | None


class FrameSegmenter:
    """Segments one frame after the other, in the caller's thread."""

    def __init__(self, segmenter: Segmenter, mpp: float | None) -> None:
        self._segmenter, self._mpp = segmenter, mpp
        card = segmenter.bundle.manifest
        self.model_name = f"{card.name} {card.version}"
        self.class_names = tuple(item.name for item in card.classes)
        self.palette = tuple(item.color for item in card.classes)
        self.engine_name: str | None = None

    @classmethod
    def load(
        cls,
        model: str | Path | Bundle,
        mpp: float | None = None,
        open_engine: OpenEngine | None = None,
        **options: Any,
    ) -> FrameSegmenter:
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        return cls(Segmenter(bundle, infer_options(**options), open_engine), mpp)

    @property
    def counted_names(self) -> tuple[str, ...]:
        """Classes whose cells are counted: all but background, if cells are told apart."""
        tells = self._segmenter.bundle.manifest.head.instances is not None
        return self.class_names[1:] if tells else ()

    def takes(self, frame: Frame) -> bool:
        """Tell whether a frame is an image."""
        array = frame.array
        is_image = isinstance(array, np.ndarray) and array.dtype in (np.uint8, np.uint16)
        return is_image and array.ndim in (2, 3) and 0 not in array.shape

    def __call__(self, image: NDArray[Any]) -> Seen:
        """Segment a frame."""
        if not isinstance(image, np.ndarray):
            raise CellsegError(f"A frame is an array. Received: {type(image).__name__}.")
        started_s = time.perf_counter()
        found = self._segmenter(image, self._mpp)
        engine_ms = (time.perf_counter() - started_s) * 1e3
        counts = dict.fromkeys(self.counted_names, 0)
        if found.labels is not None:
            counts[self.class_names[1]] = int(found.labels.max(initial=0))
        return Seen(found.classes, found.labels, counts, 0.0, engine_ms, None)

    def close(self) -> None:
        """Release the engines."""
        self._segmenter.close()
