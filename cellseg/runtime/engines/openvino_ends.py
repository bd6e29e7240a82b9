"""What a network begins and ends with, in OpenVINO's graph: its widest tensors are moved once.

The image comes as bytes with channels last, as OpenVINO's convolutions want their floats; told to
bring channels forward and then to make floats, it does the one, the other, and puts channels back.
Here floats are made first, of a row of values, which OpenVINO does not take for an image.

A network whose last convolution makes blocks of pixels spreads them (``DepthToSpace``), decides
(softmax), and brings channels to the end (NHWC): what it found is moved three times. Here the
places within a block are images of their own, side by side in the batch, until values are final;
then one transposition does both::

    [1, s*s*C, h, w] -> [s*s, C, h, w] -> softmax -> [s, s*C, h, w] -> [h, s, w, s*C] = [H, W, C]

Values are the same: none of these layers looks beyond its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cellseg.runtime.engines.openvino_layers import after, images, key, layer_of
from cellseg.runtime.engines.untold import untold

with untold():
    from openvino import opset13

__all__ = ["float_first", "spread_last"]


def float_first(model: Any) -> None:
    """Make floats of the image before its channels are brought forward.

    Parameters
    ----------
    model : openvino.Model
        Input NHWC, of static shape. Edited in place.
    """
    image = model.input(0)
    forward = _only_reader(image, "Transpose")
    floats = None if forward is None else _only_reader(forward.output(0), "Convert")
    if forward is None or floats is None:
        return
    row = opset13.reshape(image, _numbers(-1), special_zero=False)
    converted = opset13.convert(row, floats.get_element_type().get_type_name())
    shaped = opset13.reshape(converted, _numbers(*image.get_shape()), special_zero=False)
    planar = opset13.transpose(shaped, forward.input_value(1))
    floats.output(0).replace(planar.output(0))
    model.validate_nodes_and_infer_types()


def _only_reader(tensor: Any, kind: str) -> Any | None:
    readers = [port.get_node() for port in tensor.get_target_inputs()]
    is_it = len(readers) == 1 and readers[0].get_type_name() == kind
    return readers[0] if is_it else None


def spread_last(model: Any) -> None:
    """Move the last ``DepthToSpace`` behind all that follows it, for each output.

    Parameters
    ----------
    model : openvino.Model
        Outputs NHWC, of one image or parts of it. Edited in place.
    """
    nodes = model.get_ordered_ops()
    for spread in filter(None, map(_last_spread, model.get_results())):
        chain = after(spread, nodes)
        if _is_ending(chain):
            _spread_at_the_end(chain)
    model.validate_nodes_and_infer_types()


def _last_spread(node: Any) -> Any | None:
    """Return the last layer before a node that spreads blocks of pixels."""
    while node.get_type_name() != "DepthToSpace":
        sources = images(node)
        if not sources:
            return None
        node = sources[0].get_node()
    return node


def _is_ending(chain: list[Any]) -> bool:
    """Whether only layers that know no place follow, the last transposition and the output."""
    spread, *between = chain
    kinds = [node.get_type_name() for node in between]
    if (
        kinds[-2:] != ["Transpose", "Result"]
        or kinds.count("Transpose") > 1
        or spread.get_attributes()["mode"] != "blocks_first"
    ):
        return False
    made = {key(node.output(0)) for node in chain}
    return all(
        _knows_no_place(node) and all(key(source) in made for source in images(node))
        for node in between
    )


def _knows_no_place(node: Any) -> bool:
    layer = layer_of(node)
    return layer is not None and layer.is_by_place and layer.finer == 1


def _spread_at_the_end(chain: list[Any]) -> None:
    spread, last = chain[0], chain[-2]
    blocks, side = spread.input_value(0), spread.get_attributes()["block_size"]
    made = blocks.get_partial_shape()[1].get_length() // side**2
    found = last.output(0).get_partial_shape()[3].get_length()
    hw = opset13.gather(opset13.shape_of(blocks), _numbers(2, 3), _numbers(0))
    apart = _shaped(blocks, _numbers(side * side, made), hw)
    spread.output(0).replace(apart.output(0))
    together = _shaped(last.input_value(0), _numbers(side, side * found), hw)
    rows = opset13.transpose(together, _numbers(2, 0, 3, 1))
    full_hw = opset13.multiply(hw, _numbers(side))
    last.output(0).replace(_shaped(rows, _numbers(1), full_hw, _numbers(found)).output(0))


def _shaped(tensor: Any, *parts: Any) -> Any:
    return opset13.reshape(tensor, opset13.concat([*parts], 0), special_zero=False)


def _numbers(*values: int) -> Any:
    return opset13.constant(np.array(values, np.int64))
