"""Makes blocks of pixels where they belong, in OpenVINO's graph, rather than moving them there.

A decoder doubles the resolution by a convolution that makes the four values of a block side by side
in the channels, and `DepthToSpace`, which spreads them: files say it so since every engine can do
both. In OpenVINO the second takes up to four times as long as the first. A transposed convolution
whose kernel is its stride does the same in one go, and writes each value to its place::

    conv 1x1, C to s*s*K  -  DepthToSpace, s      =      ConvolutionBackpropData s x s, C to K

Values are the same sums of the same products. What a transposed convolution can't have is a step of
its own for each place within a block; `cellseg.export.precisions.u8s8` gives those of one channel
one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.engines.openvino_layers import after, is_read_once
from cellseg.runtime.engines.untold import untold

with untold():
    from openvino import opset13
    from openvino.utils.node_factory import NodeFactory

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["spread_by_convolution"]

_BETWEEN = frozenset(("Add", "Convert", "FakeQuantize", "Multiply", "Relu", "Subtract"))
_COMPUTED = {"Multiply": np.multiply, "Subtract": np.subtract}


@dataclass(frozen=True)
class _Blocks:
    """How `DepthToSpace` reads its channels."""

    side: int
    blocks_first: bool

    def apart(self, values: NDArray[Any]) -> NDArray[Any] | None:
        """Divide what there is for each channel: (s*s*K, ...) to (s, s, K, ...)."""
        count, rest = self.side**2, values.shape[1:]
        if values.shape[0] % count:
            return None
        if self.blocks_first:
            return values.reshape(self.side, self.side, -1, *rest)
        return np.moveaxis(values.reshape(-1, self.side, self.side, *rest), 0, 2)

    def shared(self, values: NDArray[Any]) -> NDArray[Any] | None:
        """Return what all places of a block have, (K,); None if they differ."""
        apart = self.apart(values.reshape(-1))
        if apart is None or not np.array_equal(apart, np.broadcast_to(apart[:1, :1], apart.shape)):
            return None
        return np.asarray(apart[0, 0])


def spread_by_convolution(model: Any) -> None:
    """Let transposed convolutions make what convolutions of a pixel and ``DepthToSpace`` do.

    Where no convolution follows, `cellseg.runtime.engines.openvino_ends` has a better way.

    Parameters
    ----------
    model : openvino.Model
        Edited in place.
    """
    nodes = model.get_ordered_ops()
    for node in nodes:
        if node.get_type_name() == "DepthToSpace" and _is_convolved(after(node, nodes)):
            spread = _transposed(node)
            if spread is not None:
                node.output(0).replace(spread)
    model.validate_nodes_and_infer_types()


def _is_convolved(chain: list[Any]) -> bool:
    return any("Convolution" in node.get_type_name() for node in chain)


def _transposed(node: Any) -> Any | None:
    """Return what a ``DepthToSpace`` makes, made by a transposed convolution."""
    traits = node.get_attributes()
    blocks = _Blocks(traits["block_size"], traits["mode"] == "blocks_first")
    after_it: list[Any] = []
    maker = node.input_value(0).get_node()
    while maker.get_type_name() in _BETWEEN and is_read_once(maker.output(0)):
        after_it.append(maker)
        maker = maker.input_value(0).get_node()
    if not _is_of_a_pixel(maker) or not is_read_once(maker.output(0)):
        return None
    image, weights = maker.input_values()
    kernel = _kernel(weights, blocks)
    is_float = weights.get_node().get_type_name() == "Constant"
    if kernel is None or not (is_float or _begins_at_zero(image)):
        return None
    made = opset13.convolution_backprop_data(
        image, kernel, [blocks.side] * 2, pads_begin=[0, 0], pads_end=[0, 0], dilations=[1, 1]
    ).output(0)
    for each in reversed(after_it):
        made = None if made is None else _of_blocks(each, made, blocks)
    return made


def _of_blocks(node: Any, tensor: Any, blocks: _Blocks) -> Any | None:
    """Return what a node makes of a tensor, its constants being those of a block's channels."""
    others = [_of_channels(source, blocks) for source in list(node.input_values())[1:]]
    if any(other is None for other in others):
        return None
    create = NodeFactory("opset13").create
    return create(node.get_type_name(), [tensor, *others], node.get_attributes()).output(0)


def _is_of_a_pixel(node: Any) -> bool:
    """Whether a node is a convolution that sees one pixel."""
    if node.get_type_name() != "Convolution":
        return False
    traits, kernel = node.get_attributes(), list(node.input(1).get_shape())
    no_pads = not any(traits["pads_begin"] + traits["pads_end"])
    return len(kernel) == 4 and kernel[2:] == [1, 1] and traits["strides"] == [1, 1] and no_pads


def _begins_at_zero(tensor: Any) -> bool:
    """Whether a tensor was rounded to bytes of which 0 is 0.

    Of others OpenVINO computes convolutions in bytes, but transposed ones in floats.
    """
    scaled = tensor.get_node()
    if scaled.get_type_name() != "Multiply":
        return False
    shifted = scaled.input_value(0).get_node()
    if shifted.get_type_name() == "Convert":
        return True
    zero = _values(shifted.input_value(1)) if shifted.get_type_name() == "Subtract" else None
    return zero is not None and not zero.any()


def _kernel(weights: Any, blocks: _Blocks) -> Any | None:
    """Return a kernel (s*s*K, C, 1, 1) as one of a transposed convolution, (C, K, s, s)."""
    node = weights.get_node()
    if node.get_type_name() == "Constant":
        return _turned(node, blocks)
    if node.get_type_name() not in ("Multiply", "Subtract", "Convert"):
        return None
    tensor = _kernel(node.input_value(0), blocks)
    return None if tensor is None else _of_blocks(node, tensor, blocks)


def _turned(node: Any, blocks: _Blocks) -> Any | None:
    values = blocks.apart(node.data[:, :, 0, 0])
    if values is None:
        return None
    return opset13.constant(np.ascontiguousarray(values.transpose(3, 2, 0, 1))).output(0)


def _of_channels(source: Any, blocks: _Blocks) -> Any | None:
    """Return a constant of one value, or of one a channel of blocks, as one a channel."""
    values = _values(source)
    if values is None or values.size == 1:
        return None if values is None else source
    shared = blocks.shared(values)
    if shared is None:
        return None
    dtype = source.get_element_type().to_dtype()
    return opset13.constant(shared.reshape(1, -1, 1, 1).astype(dtype)).output(0)


def _values(source: Any) -> NDArray[np.float32] | None:
    """Return the values of a constant, or of what is computed of constants, as a row."""
    node = source.get_node()
    if node.get_type_name() == "Constant":
        return np.asarray(node.data, np.float32).reshape(-1)
    if node.get_type_name() in ("Convert", "Reshape"):
        return _values(node.input_value(0))
    if node.get_type_name() not in _COMPUTED:
        return None
    one, other = map(_values, node.input_values())
    return None if one is None or other is None else _COMPUTED[node.get_type_name()](one, other)
