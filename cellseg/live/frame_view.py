"""A frame as the model sees it: in its range, at its pixel size, in memory that is kept.

The same pixels as `cellseg.runtime.view.working.WorkingView` gives of an array: the steps are the
same, and so are their tables. Only where they are written to differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.runtime.kernels.frame import look_up
from cellseg.runtime.kernels.resample import resample
from cellseg.runtime.slides.slide import rgb_from_samples
from cellseg.runtime.view.normalize import build_lut
from cellseg.runtime.view.working import axis_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.view.normalize import Intensities

__all__ = ["FrameView"]


class FrameView:
    """Turns frames of one shape and dtype into the model's uint8 RGB.

    Parameters
    ----------
    shape : tuple of int
        Shape of the frames, (H, W) or (H, W, C).
    dtype : dtype
        uint8 or uint16.
    job : Job
        Prepared for such a frame: working extent, scale and normalization.

    Attributes
    ----------
    pixels : uint8, shape (h, w, 3)
        The newest frame at the working level, rounded up to the network's stride.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], job: Job) -> None:
        self._dtype = dtype
        self._frame_hw, self._wl_hw, self._scale = shape[:2], job.view.hw, job.view.scale
        self.pixels = np.empty((*job.plan.rounded_hw, 3), np.uint8)
        self._samples: NDArray[Any] | None = None
        self._stain: NDArray[Any] | None = None
        self._grey = np.empty(self._frame_hw, np.uint8) if len(shape) == 2 else None
        self._whole: NDArray[np.uint8] | None = None
        self._axes: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
        if self._scale != 1.0:
            self._whole = np.empty((*self._frame_hw, 3), np.uint8)
            sizes = zip(self._wl_hw, self._frame_hw, strict=True)
            self._axes = [axis_weights(0, count, self._scale, px) for count, px in sizes]
        self._lut_range: tuple[float, float] | None = None
        self._lut: NDArray[np.uint8] = np.empty(0, np.uint8)

    def show(
        self, image: NDArray[Any], intensities_of: Callable[[NDArray[Any]], Intensities]
    ) -> Intensities:
        """Fill ``pixels`` from a frame.

        Parameters
        ----------
        image : NDArray
            Of the shape and dtype that the view was made for.
        intensities_of : callable
            From its samples to what is seen of their values.

        Returns
        -------
        Intensities
            What was seen.
        """
        samples = self._contiguous(image)
        found = intensities_of(samples)
        lut = self._table(found.value_range)
        if found.channel is not None and samples.ndim == 3:
            samples = self._one_channel(samples, found.channel)
        inner = self.pixels[: self._wl_hw[0], : self._wl_hw[1]]
        if self._whole is None:
            self._map(samples, lut, inner)
        else:
            self._map(samples, lut, self._whole)
            (y_first, y_weights), (x_first, x_weights) = self._axes
            resample(self._whole, y_first, y_weights, x_first, x_weights, inner)
        self._repeat_edges()
        return found

    def _one_channel(self, samples: NDArray[Any], channel: int) -> NDArray[Any]:
        """Return what shows a painted stain: a grey frame."""
        if self._stain is None:
            self._stain = np.empty(self._frame_hw, self._dtype)
        cv2.extractChannel(samples, channel, dst=self._stain)
        return self._stain

    def _contiguous(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return samples that OpenCV can look at: (H, W) or (H, W, 3), this machine's numbers."""
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        if image.ndim == 3 and image.shape[2] == 4:
            # White shows through where it is not opaque; where it is, colours are as they are.
            is_opaque = image[..., 3].min() == np.iinfo(image.dtype).max
            image = image[..., :3] if is_opaque else rgb_from_samples(image)
        if image.flags.c_contiguous and image.dtype.isnative:
            return image
        if self._samples is None or self._samples.shape != image.shape:
            self._samples = np.empty(image.shape, self._dtype)
        np.copyto(self._samples, image)
        return self._samples

    def _table(self, found: tuple[float, float]) -> NDArray[np.uint8]:
        """Return the table of a range, made anew only where the range changed."""
        if found != self._lut_range:
            self._lut_range, self._lut = found, build_lut(found, self._dtype)
        return self._lut

    def _map(
        self, samples: NDArray[Any], lut: NDArray[np.uint8], target: NDArray[np.uint8]
    ) -> None:
        if samples.ndim == 3:
            _map_into(samples, lut, target)
            return
        if self._grey is None:
            self._grey = np.empty(self._frame_hw, np.uint8)
        _map_into(samples, lut, self._grey)
        cv2.cvtColor(self._grey, cv2.COLOR_GRAY2RGB, dst=target)

    def _repeat_edges(self) -> None:
        """Let what the network's stride asks for past the frame repeat its last pixels."""
        (h, w), pixels = self._wl_hw, self.pixels
        if w < pixels.shape[1]:
            pixels[:h, w:] = pixels[:h, w - 1 : w]
        if h < pixels.shape[0]:
            pixels[h:] = pixels[h - 1 : h]


def _map_into(samples: NDArray[Any], lut: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    if samples.dtype == np.uint8:
        cv2.LUT(samples, lut, dst=target)
    elif samples.ndim == 2:
        look_up(samples, lut, target)
    else:
        for channel in range(samples.shape[2]):
            look_up(samples[..., channel], lut, target[..., channel])
