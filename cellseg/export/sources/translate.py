"""The float graphs of a bundle: Keras layers translated, then made fast pass by pass."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.reach import output_scale, total_stride
from cellseg.export.passes import run_passes
from cellseg.export.passes.blocks_by_depth import BlocksByDepth
from cellseg.export.passes.conv_transpose import ConvTransposeToDepthToSpace
from cellseg.export.passes.fold_batchnorm import FoldBatchNorm
from cellseg.export.passes.fold_input_scale import FoldInputScale
from cellseg.export.passes.fold_padding import FoldPadding
from cellseg.export.passes.keep_channels import KeepChannels
from cellseg.export.passes.sink_depth_to_space import SinkDepthToSpace
from cellseg.export.passes.spell_out_softmax import SpellOutSoftmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

__all__ = ["float_graph", "for_onnx", "plain_graph", "tidied"]

_LOG = logging.getLogger(__name__)


def float_graph(model: Any, channels: Sequence[int], trained_channels: int) -> onnx.ModelProto:
    """Translate a Keras model and run every pass; see `plain_graph`."""
    return for_onnx(plain_graph(model, channels, trained_channels))


def plain_graph(
    model: Any, channels: Sequence[int], trained_channels: int, whole_tile: bool = False
) -> onnx.ModelProto:
    """Translate a Keras model and run the passes that serve every format.

    Parameters
    ----------
    model : keras.Model
        The trained network.
    channels : sequence of int
        Output channels to keep, ascending.
    trained_channels : int
        Output channels the network must have.
    whole_tile : bool
        Allow layers that look at the whole tile.

    Raises
    ------
    ExportError
        If a layer has no counterpart, or the network has another number of channels, or its map is
        of another size than the image.
    """
    from cellseg.export.from_keras.model import onnx_from_keras  # needs Keras, which ONNX does not

    graph = onnx_from_keras(model, whole_tile)
    found = graph.graph.output[0].type.tensor_type.shape.dim[3].dim_value
    if found != trained_channels:
        raise ExportError(
            "model.json must name every output channel. "
            f"Received: {trained_channels} channels, the network has {found}."
        )
    plain = tidied(run_passes((KeepChannels(channels),), graph))
    _require_full_size(plain)
    return plain


def _require_full_size(graph: onnx.ModelProto) -> None:
    rows, columns = output_scale(graph)
    if rows != 1 or columns != 1:
        raise ExportError(
            "A model must give a map as large as the image, whatever its size. "
            f"Received: {1 / rows} of its height and {1 / columns} of its width.",
            hint="Bring the map to the image's size inside the model, e.g. by "
            "UpSampling2D(interpolation='bilinear').",
        )


def tidied(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Run the passes that serve every format on a graph of any origin."""
    passes = (
        FoldPadding(),
        FoldBatchNorm(),
        FoldInputScale(),
        BlocksByDepth(),
        ConvTransposeToDepthToSpace(),
        SinkDepthToSpace(),
    )
    graph = run_passes(passes, graph)
    _LOG.info("translated to ONNX: %d nodes, stride %d", len(graph.graph.node), total_stride(graph))
    return graph


def for_onnx(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Run the passes that only help engines which read ONNX."""
    return run_passes((SpellOutSoftmax(),), graph)
