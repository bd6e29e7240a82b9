"""Gamma and colour spaces in ONNX: the formulas of `cellseg.layers.colors`, node by node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.layers.colors import FORMULAS, gamma_curve

if TYPE_CHECKING:
    from cellseg.export.onnx_graph.builder import GraphBuilder

__all__ = ["color_space", "gamma_layer"]


def gamma_layer(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Add a `GammaCurve`."""
    math = _GraphArithmetic(builder, layer.name)
    return str(gamma_curve(_Map(inputs[0], math), layer.gamma, math).name)


def color_space(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Add a `ColorSpace`: three maps, and what becomes of them joined again."""
    math = _GraphArithmetic(builder, layer.name)
    red, green, blue = (math.channel(inputs[0], place) for place in range(3))
    found = FORMULAS[layer.space]((red, green, blue), math)
    return builder.node("Concat", [item.name for item in found], layer.name, axis=1)


@dataclass(frozen=True)
class _Map:
    """A tensor of the graph that formulas compute with."""

    name: str
    math: _GraphArithmetic

    def __add__(self, other: Any) -> _Map:
        return self.math.node("Add", self, other)

    def __sub__(self, other: Any) -> _Map:
        return self.math.node("Sub", self, other)

    def __mul__(self, other: Any) -> _Map:
        return self.math.node("Mul", self, other)

    def __truediv__(self, other: Any) -> _Map:
        return self.math.node("Div", self, other)


class _GraphArithmetic:
    """Adds a node for each operation."""

    def __init__(self, builder: GraphBuilder, layer: str) -> None:
        self._builder, self._layer = builder, layer

    def node(self, op: str, *operands: Any) -> _Map:
        names = [
            item.name
            if isinstance(item, _Map)
            else self._builder.constant(np.array(item, np.float32), f"{self._layer}/number")
            for item in operands
        ]
        return _Map(self._builder.node(op, names, f"{self._layer}/{op.lower()}"), self)

    def channel(self, image: str, place: int) -> _Map:
        index = self._builder.constant(np.array([place], np.int64), f"{self._layer}/place")
        name = f"{self._layer}/channel"
        return _Map(self._builder.node("Gather", [image, index], name, axis=1), self)

    def maximum(self, one: Any, two: Any) -> _Map:
        return self.node("Max", one, two)

    def minimum(self, one: Any, two: Any) -> _Map:
        return self.node("Min", one, two)

    def power(self, base: Any, exponent: float) -> _Map:
        return self.node("Pow", base, exponent)

    def at_least(self, value: Any, limit: Any, then: Any, other: Any) -> _Map:
        return self.node("Where", self.node("GreaterOrEqual", value, limit), then, other)
