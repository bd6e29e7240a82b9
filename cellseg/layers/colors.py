"""Colour spaces and gamma as Keras layers, so that every exported file holds them.

The formulas are written once, over an `Arithmetic`: Keras computes them, and the exporter writes
them down as a graph. They are those of OpenCV on 8-bit images, without its rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import keras
from keras import ops

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FORMULAS", "Arithmetic", "ColorSpace", "GammaCurve", "gamma_curve"]

_LEAST = 1e-3
"""Divisor in place of 0; grey levels of a byte are at least 1 apart."""


class Arithmetic(Protocol):
    """What a formula needs besides + - * / with numbers and with each other."""

    def maximum(self, one: Any, two: Any) -> Any:
        """Return the larger of two maps, or of a map and a number."""
        ...

    def minimum(self, one: Any, two: Any) -> Any:
        """Return the smaller."""
        ...

    def power(self, base: Any, exponent: float) -> Any:
        """Return ``base ** exponent``, base >= 0."""
        ...

    def at_least(self, value: Any, limit: Any, then: Any, other: Any) -> Any:
        """Return ``then`` where ``value >= limit``, elsewhere ``other``."""
        ...


Channels = tuple[Any, Any, Any]


def gamma_curve(value: Any, gamma: float, math: Arithmetic) -> Any:
    """Return ``255 * (v / 255) ** gamma`` of grey values 0..255."""
    return math.power(value * (1 / 255), gamma) * 255.0


def hsv(rgb: Channels, math: Arithmetic) -> Channels:
    """Hue 0..180 (2 degrees a step), saturation and value 0..255.

    With V = max, D = V - min::

        H = 30 (g - b) / D           where V = r      S = 255 D / V
            30 (b - r) / D + 60      where V = g
            30 (r - g) / D + 120     where V = b      plus 180 below 0
    """
    red, green, blue = rgb
    value = math.maximum(math.maximum(red, green), blue)
    chroma = value - math.minimum(math.minimum(red, green), blue)
    step = math.maximum(chroma, _LEAST)
    by_green = (blue - red) / step * 30.0 + 60.0
    by_blue = (red - green) / step * 30.0 + 120.0
    hue = math.at_least(green, value, by_green, by_blue)
    hue = math.at_least(red, value, (green - blue) / step * 30.0, hue)
    hue = math.at_least(hue, 0.0, hue, hue + 180.0)
    return hue, chroma / math.maximum(value, _LEAST) * 255.0, value


def lab(rgb: Channels, math: Arithmetic) -> Channels:
    """CIE L*a*b* of sRGB under D65: L times 2.55, a and b plus 128.

    References
    ----------
    .. [1] CIE 15:2004, Colorimetry; IEC 61966-2-1 (sRGB).
    """
    red, green, blue = (_linear(channel * (1 / 255), math) for channel in rgb)
    x = _lightness((red * 0.412453 + green * 0.357580 + blue * 0.180423) * (1 / 0.950456), math)
    y = _lightness(red * 0.212671 + green * 0.715160 + blue * 0.072169, math)
    z = _lightness((red * 0.019334 + green * 0.119193 + blue * 0.950227) * (1 / 1.088754), math)
    return (y * 116.0 - 16.0) * 2.55, (x - y) * 500.0 + 128.0, (y - z) * 200.0 + 128.0


def _linear(value: Any, math: Arithmetic) -> Any:
    """Undo sRGB's curve; 0..1."""
    curve = math.power((value + 0.055) * (1 / 1.055), 2.4)
    return math.at_least(value, 0.04045, curve, value * (1 / 12.92))


def _lightness(value: Any, math: Arithmetic) -> Any:
    root = math.power(value, 1 / 3)
    return math.at_least(value, 0.008856, root, value * 7.787 + 16 / 116)


FORMULAS: dict[str, Callable[[Channels, Arithmetic], Channels]] = {"hsv": hsv, "lab": lab}
"""Colour spaces that no matrix leads to."""


class _KerasArithmetic:
    maximum = staticmethod(ops.maximum)
    minimum = staticmethod(ops.minimum)
    power = staticmethod(ops.power)

    @staticmethod
    def at_least(value: Any, limit: Any, then: Any, other: Any) -> Any:
        return ops.where(value >= limit, then, other)


@keras.saving.register_keras_serializable(package="cellseg")
class GammaCurve(keras.layers.Layer):
    """Grey values v of 0..255 become ``255 * (v / 255) ** gamma``.

    Parameters
    ----------
    gamma : float
        Exponent, > 0; below 1 brightens.
    """

    def __init__(self, gamma: float, **options: Any) -> None:
        super().__init__(**options)
        self.gamma = float(gamma)

    def call(self, inputs: Any) -> Any:
        """Bend every channel."""
        return gamma_curve(inputs, self.gamma, _KerasArithmetic())

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the image, which stays."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable(package="cellseg")
class ColorSpace(keras.layers.Layer):
    """RGB of 0..255 in another colour space, as OpenCV gives 8-bit images.

    Parameters
    ----------
    space : str
        Key of ``FORMULAS``.
    """

    def __init__(self, space: str, **options: Any) -> None:
        super().__init__(**options)
        self.space = space

    def call(self, inputs: Any) -> Any:
        """Convert every pixel."""
        rgb = tuple(inputs[..., place : place + 1] for place in range(3))
        return ops.concatenate(FORMULAS[self.space](rgb, _KerasArithmetic()), -1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the image, which stays: grey, too, has three channels."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "space": self.space}
