"""Rounds a tensor to bytes once, in OpenVINO's graph, where a file says so again and again.

Files have a pair of QuantizeLinear and DequantizeLinear behind every layer, also behind those that
only move values: what was rounded before them would be rounded to the same bytes once more.
OpenVINO does so, reading and writing the whole tensor each time, twice where sizes come with the
tile. Here a pair goes

- behind ``DepthToSpace``, if its input was rounded by the same pair;
- behind ``Concat``, to those of its inputs that were not, if there is one that was.

Nothing changes: a value that is a step of a scale is rounded to itself, and whether rows are put
side by side before or after rounding is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cellseg.runtime.engines.untold import untold

with untold():
    from openvino.utils.node_factory import NodeFactory

__all__ = ["round_once"]

_MOVING = "DepthToSpace"
_JOINING = "Concat"
_STEPS = ("FakeQuantize", "Convert", "Convert", "Subtract", "Multiply")


@dataclass(frozen=True)
class _Pair:
    """QuantizeLinear and DequantizeLinear, as OpenVINO reads them."""

    nodes: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...] | None:
        """Lowest and highest value; None if they are not the same for all channels."""
        ends = [_scalar(self.nodes[0].input_value(number)) for number in (1, 2)]
        return None if None in ends else tuple(ends)

    def copied_to(self, tensor: Any) -> Any:
        """Return the tensor, rounded by a copy."""
        factory = NodeFactory("opset13")
        for node in self.nodes:
            inputs = [tensor, *list(node.input_values())[1:]]
            tensor = factory.create(node.get_type_name(), inputs, node.get_attributes()).output(0)
        return tensor


def round_once(model: Any) -> None:
    """Leave out what rounds bytes to themselves.

    Parameters
    ----------
    model : openvino.Model
        Edited in place.
    """
    for node in model.get_ordered_ops():
        pair = _pair_after(node.output(0)) if node.get_type_name() in (_MOVING, _JOINING) else None
        if pair is None or pair.ends is None:
            continue
        others = [port for port in node.inputs() if not _is_rounded(port, pair.ends)]
        if len(others) == len(node.inputs()):
            continue
        for port in others:
            port.replace_source_output(pair.copied_to(port.get_source_output()))
        for reader in list(pair.nodes[-1].output(0).get_target_inputs()):
            reader.replace_source_output(node.output(0))
    model.validate_nodes_and_infer_types()


def _is_rounded(port: Any, ends: tuple[Any, ...]) -> bool:
    pair = _pair_before(port.get_source_output())
    return pair is not None and pair.ends == ends


def _pair_after(tensor: Any) -> _Pair | None:
    """Return the pair that alone reads a tensor."""
    found: list[Any] = []
    for kind in _STEPS:
        readers = list(tensor.get_target_inputs())
        if len(readers) != 1 or readers[0].get_node().get_type_name() != kind:
            return None
        found.append(readers[0].get_node())
        tensor = found[-1].output(0)
    return _Pair(tuple(found))


def _pair_before(tensor: Any) -> _Pair | None:
    """Return the pair that made a tensor's values, which may have been moved since."""
    while tensor.get_node().get_type_name() == _MOVING:
        tensor = tensor.get_node().input_value(0)
    found: list[Any] = []
    for kind in reversed(_STEPS):
        node = tensor.get_node()
        if node.get_type_name() != kind:
            return None
        found.append(node)
        tensor = node.input_value(0)
    return _Pair(tuple(reversed(found)))


def _scalar(tensor: Any) -> float | None:
    """Return the one value of a constant; None if it holds others, or is none."""
    node = tensor.get_node()
    while node.get_type_name() in ("Reshape", "Convert"):
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return None
    values = np.unique(node.data)
    return float(values[0]) if values.size == 1 else None
