"""The shipped network in the forms that the contestants take; equal weights in each.

Three edits of the graph, none of a weight:

- no contestant but ours has an intensity range for the whole slide, so ours runs without it, too
  (``normalize: none`` in a bundle made for the comparison);
- planar float32 input in 0..255 in place of interleaved uint8 (``planar``);
- two channels out, background and foreground, in place of three (``planar``), as the bundle's rule
  is "foreground from 0.5 on" and two channels let a peer's own argmax say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellseg.runtime.bundles.bundle import Bundle, Variant, write_bundle

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class NetworkFiles:
    """Where each form is."""

    bundle: Path
    """For ours: fp32 and int8."""

    planar: Path
    """fp32 ONNX, float32 (N, 3, H, W) to (N, 2, H, W), any H and W."""

    planar_fixed: Path
    """The same for one patch of a fixed size."""

    planar_fixed_int8: Path
    """The int8 variant in that form."""


def write_network_files(model: str, folder: Path, patch_px: int) -> NetworkFiles:
    """Write every form into ``folder``."""
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    bundle = Bundle.open(model)
    contents = {v.precision: bundle.read_variant(v.file) for v in _for_cpu(bundle)}
    files = NetworkFiles(
        folder / "without-range.cellseg",
        folder / "planar.onnx",
        folder / f"planar-{patch_px}.onnx",
        folder / f"planar-{patch_px}.int8.onnx",
    )
    _write_without_range(bundle, files.bundle)
    for precision, hw, path in (
        ("fp32", ("H", "W"), files.planar),
        ("fp32", (patch_px, patch_px), files.planar_fixed),
        ("int8", (patch_px, patch_px), files.planar_fixed_int8),
    ):
        graph = planar(onnx.load_from_string(contents[precision]), hw)
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, path)
    return files


def _for_cpu(bundle: Bundle) -> list[Variant]:
    """Return the fp32 ONNX file and the int8 one for x86."""
    return [v for v in bundle.variants if v.file in ("model.fp32.onnx", "model.int8.u8s8.onnx")]


def _write_without_range(bundle: Bundle, path: Path) -> None:
    source = bundle.manifest
    spec = source.input.model_copy(update={"normalize": type(source.input.normalize)(kind="none")})
    manifest = source.model_copy(update={"input": spec})
    files = {v.file: bundle.read_variant(v.file) for v in bundle.variants}
    write_bundle(path, manifest, files)


def planar(model: Any, hw: tuple[int | str, int | str]) -> Any:
    """Give a graph planar float input and two planar channels out.

    Parameters
    ----------
    model : onnx.ModelProto
        uint8 (N, H, W, 3) to probabilities (N, H, W, 3): background, interior, border.
    hw : (int or str, int or str)
        Height and width, or names where they are free.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    _make_scalar(graph)
    source, target = graph.input[0].name, graph.output[0].name
    entry = _entry_nodes(graph, source)
    last = next(node for node in graph.node if target in node.output)
    channels = last.input[0]
    kept = [node for node in graph.node if node not in entry and node != last]
    is_float = any(node.op_type == "Cast" for node in entry)
    name_of = {source: "image" if is_float else "bytes"}
    for node in entry:
        name_of[node.output[0]] = name_of.get(node.input[0], node.input[0])
    for node in kept:
        node.input[:] = [name_of.get(name, name) for name in node.input]
    if not is_float:  # a quantized graph starts from the bytes themselves
        kept.insert(0, helper.make_node("Cast", ["image"], ["bytes"], to=TensorProto.UINT8))
    starts, ends, axis = (_int64(n, v) for n, v in (("bg0", 0), ("bg1", 1), ("channel", 1)))
    one = numpy_helper.from_array(_array(1.0, "float32"), "one")
    tail = [
        helper.make_node("Slice", [channels, "bg0", "bg1", "channel"], ["background"]),
        helper.make_node("Sub", ["one", "background"], ["foreground"]),
        helper.make_node("Concat", ["background", "foreground"], ["two_classes"], axis=1),
    ]
    batch: int | str = "N" if isinstance(hw[0], str) else 1
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*kept, *tail])
    graph.initializer.extend([starts, ends, axis, one])
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, *hw]))
    graph.output.append(
        helper.make_tensor_value_info("two_classes", TensorProto.FLOAT, [batch, 2, *hw])
    )
    del graph.value_info[:]
    return model


def _entry_nodes(graph: Any, source: str) -> list[Any]:
    """Return what turns the interleaved bytes into planes or floats before the first layer."""
    nodes: list[Any] = []
    node = next(node for node in graph.node if source in node.input)
    while node.op_type in ("Transpose", "Cast", "DequantizeLinear"):
        if node.op_type != "DequantizeLinear":  # has one scale, so it serves planes as well
            nodes.append(node)
        node = next(other for other in graph.node if node.output[0] in other.input)
    return nodes


def _make_scalar(graph: Any) -> None:
    """Let one-element scales be scalars: older OpenVINO takes a list for one a channel."""
    pairs = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    used = {name for node in pairs for name in node.input[1:]}
    for item in graph.initializer:
        if item.name in used and list(item.dims) == [1]:
            del item.dims[:]


def _int64(name: str, value: int) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(_array([value], "int64"), name)


def _array(value: Any, dtype: str) -> Any:
    import numpy as np

    return np.array(value, dtype)
