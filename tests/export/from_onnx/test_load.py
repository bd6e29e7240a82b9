"""Files of newer opsets, with weights beside them, or of other floats: read, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellseg.errors import ExportError
from cellseg.export.from_onnx.load import load_onnx, normalized


def model_of(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray[Any, Any]], opset: int = 18
) -> onnx.ModelProto:
    """Make a network from "x" to "y", float (N, 4, H, W)."""
    sides = ["N", 4, "H", "W"]
    graph = helper.make_graph(
        nodes, "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def run(model: onnx.ModelProto) -> np.ndarray[Any, Any]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = np.random.default_rng(0).normal(0, 2, (1, 4, 8, 6)).astype(np.float32)
    name = session.get_inputs()[0].name
    return np.asarray(session.run(None, {name: values})[0])


def numbers(*values: float, dtype: Any = np.int64) -> np.ndarray[Any, Any]:
    return np.array(values, dtype)


NEWER: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray[Any, Any]], int]] = {
    "gelu": ([helper.make_node("Gelu", ["x"], ["y"])], {}, 20),
    "gelu by tanh": ([helper.make_node("Gelu", ["x"], ["y"], approximate="tanh")], {}, 20),
    "mish": ([helper.make_node("Mish", ["x"], ["y"])], {}, 18),
    "split": (
        [
            helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
            helper.make_node("Mul", ["a", "b"], ["y"]),
        ],
        {},
        18,
    ),
    "mean with axes": (
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"], noop_with_empty_axes=0)],
        {"axes": numbers(1)},
        18,
    ),
    "resize": (
        [
            helper.make_node(
                "Resize", ["x", "", "scales"], ["y"], mode="linear", antialias=0,
                keep_aspect_ratio_policy="stretch",
            )
        ],
        {"scales": numbers(1, 1, 2, 2, dtype=np.float32)},
        19,
    ),
    "resize of two axes": (
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest", axes=[2, 3])],
        {"scales": numbers(2, 2, dtype=np.float32)},
        18,
    ),
    "resize from the middle": (
        [
            helper.make_node(
                "Resize", ["x", "", "scales"], ["y"], mode="linear",
                coordinate_transformation_mode="half_pixel_symmetric",
            )
        ],
        {"scales": numbers(1, 1, 2, 2, dtype=np.float32)},
        19,
    ),
    "inputs left out": (
        [helper.make_node("Conv", ["x", "w", ""], ["y"])],
        {"w": np.random.default_rng(1).normal(0, 1, (2, 4, 3, 3)).astype(np.float32)},
        17,
    ),
    "pad of two axes": (
        [helper.make_node("Pad", ["x", "pads", "", "axes"], ["y"], mode="reflect")],
        {"pads": numbers(1, 2, 1, 2), "axes": numbers(2, 3)},
        18,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NEWER)
def test_newer_operators_are_respelled(name: str) -> None:
    model = model_of(*NEWER[name])
    found = normalized(model)
    assert [entry.version for entry in found.opset_import] == [17]
    np.testing.assert_allclose(run(found), run(model), rtol=1e-5, atol=1e-6)


OLDER = [
    (op, mode, by)
    for op in ("Resize", "Upsample")
    for mode in ("linear", "nearest")
    for by in (2, 4)
]


@pytest.mark.parametrize(("op", "mode", "by"), OLDER)
def test_what_older_opsets_enlarge_stays_where_it_was(op: str, mode: str, by: int) -> None:
    node = helper.make_node(op, ["x", "scales"], ["y"], mode=mode)
    weights = {"scales": numbers(1, 1, by, by, dtype=np.float32)}
    model = model_of([node], weights, 10 if op == "Resize" else 9)
    model.ir_version = 4
    np.testing.assert_allclose(run(normalized(model)), run(model), atol=1e-6)


def test_what_17_has_not_is_named(tmp_path: Path) -> None:
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], "odd", num_groups=2)
    weights = {name: np.ones(2, np.float32) for name in "sb"}
    with pytest.raises(ExportError, match=r"whole tile.*'odd' \(GroupNormalization\)") as caught:
        normalized(model_of([node], weights))
    assert "--halo-tolerance" not in str(caught.value.hint)
    node = helper.make_node("DeformConv", ["x", "w", "x"], ["y"], "odd")
    with pytest.raises(ExportError, match=r"'odd' \(DeformConv\), which is newer"):
        normalized(model_of([node], {"w": np.ones((2, 4, 1, 1), np.float32)}, 19))


def test_what_is_constant_is_computed() -> None:
    weights = {"a": numbers(1, dtype=np.float32), "b": numbers(2, dtype=np.float32)}
    nodes = [
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Sqrt", ["c"], ["d"]),
        helper.make_node("Mul", ["x", "d"], ["y"]),
    ]
    model = model_of(nodes, weights, 17)
    found = normalized(model)
    assert [node.op_type for node in found.graph.node] == ["Mul"]
    np.testing.assert_array_equal(run(found), run(model))


def test_nodes_that_share_a_name_get_their_own() -> None:
    nodes = [helper.make_node("Relu", [a], [b], "same") for a, b in (("x", "m"), ("m", "y"))]
    assert len({node.name for node in normalized(model_of(nodes, {}, 17)).graph.node}) == 2


def written(model: onnx.ModelProto, folder: Path, **how: Any) -> Path:
    onnx.save(model, folder / "own.onnx", **how)
    return folder / "own.onnx"


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(0).normal(0, 1, (1, 4, 1, 1)).astype(np.float32)}
    model = model_of([helper.make_node("Mul", ["x", "w"], ["y"])], weights, 17)
    expected = run(model)
    path = written(
        model, tmp_path, save_as_external_data=True, location="own.onnx.data", size_threshold=0
    )
    np.testing.assert_array_equal(run(normalized(load_onnx(path))), expected)
    (tmp_path / "own.onnx.data").unlink()
    with pytest.raises(ExportError, match="file beside it") as caught:
        load_onnx(path)
    assert ".data" in (caught.value.hint or "")


def test_weights_elsewhere_on_the_disk_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    folder = tmp_path / "model"
    folder.mkdir()
    model = model_of([helper.make_node("Mul", ["x", "w"], ["y"])], {}, 17)
    outside = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1, 4, 1, 1])
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../secret")
    (folder / "own.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="file beside it"):
        load_onnx(folder / "own.onnx")


def test_half_precision_is_refused_by_name(tmp_path: Path) -> None:
    half = {"w": np.ones((1, 4, 1, 1), np.float16)}
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["h", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(ExportError, match="'w' in FLOAT16") as caught:
        load_onnx(written(model_of(nodes, half, 17), tmp_path))
    assert "--precision fp16" in (caught.value.hint or "")


def constant(name: str, value: Any, dtype: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(dtype(value)))


OTHER_FLOATS = {
    "a weight that is a node": ([constant("w", 2.0, np.float16)], {}, "'w' in FLOAT16"),
    "a number": ([], {"w": np.float64(2)}, "'w' in DOUBLE"),
    "a cast of several": ([constant("w", 2.0, np.float32)], {}, "'h' in DOUBLE"),
}


@pytest.mark.parametrize("name", OTHER_FLOATS)
def test_other_floats_are_refused_wherever_they_come_in(name: str, tmp_path: Path) -> None:
    lead, weights, message = OTHER_FLOATS[name]
    nodes = [  # without names, as some exporters leave them
        *lead,
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["h"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "w"], ["y"]),
    ]
    with pytest.raises(ExportError, match=message):
        load_onnx(written(model_of(nodes, weights, 17), tmp_path))


def test_weights_that_are_kept_in_half_precision_are_computed_with_in_float32(
    tmp_path: Path,
) -> None:
    nodes = [
        helper.make_node("Cast", ["h"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "w"], ["y"]),
    ]
    model = model_of(nodes, {"h": np.full((1, 4, 1, 1), 0.1, np.float16)}, 17)
    np.testing.assert_array_equal(run(normalized(load_onnx(written(model, tmp_path)))), run(model))


def test_what_is_computed_in_double_of_constants_alone_folds_away(tmp_path: Path) -> None:
    nodes = [
        constant("w", [2.0], np.float64),
        helper.make_node("Identity", ["w"], ["same"]),
        helper.make_node("Cast", ["same"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["f"], ["again"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["again"], ["g"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "g"], ["y"]),
    ]
    model = model_of(nodes, {}, 17)
    np.testing.assert_array_equal(run(normalized(load_onnx(written(model, tmp_path)))), run(model))


def test_a_batch_norm_that_still_learns_is_refused(tmp_path: Path) -> None:
    names = ["x", *"abcd"]
    node = helper.make_node("BatchNormalization", names, ["y", "m", "v"], "odd", training_mode=1)
    model = model_of([node], {name: np.ones(4, np.float32) for name in "abcd"}, 17)
    with pytest.raises(ExportError, match="'odd'.*training mode"):
        load_onnx(written(model, tmp_path))


def test_a_quantized_file_is_refused(tmp_path: Path) -> None:
    weights = {"s": np.array(0.1, np.float32), "z": np.array(0, np.uint8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "odd"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    with pytest.raises(ExportError, match=r"must be float.*'odd' \(QuantizeLinear\)"):
        load_onnx(written(model_of(nodes, weights, 17), tmp_path))


def test_functions_of_the_file_are_written_out(tmp_path: Path) -> None:
    twice = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model = model_of([helper.make_node("Twice", ["x"], ["y"], domain="mine")], {}, 17)
    model.functions.append(twice)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    found = normalized(load_onnx(written(model, tmp_path)))
    assert [node.op_type for node in found.graph.node] == ["Add"]


def test_an_operator_that_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Foo", ["x"], ["y"])], {}, 15)
    with pytest.raises(ExportError, match=r"ONNX's own. Received: 'y' \(Foo\)"):
        load_onnx(written(model, tmp_path))


@pytest.mark.parametrize("is_node", [True, False])
def test_sparse_weights_are_refused_by_name(is_node: bool, tmp_path: Path) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    places = numpy_helper.from_array(np.array([2]), "places")
    sparse = helper.make_sparse_tensor(values, places, [1, 4, 1, 1])
    lead = [helper.make_node("Constant", [], ["w"], sparse_value=sparse)] if is_node else []
    model = model_of([*lead, helper.make_node("Mul", ["x", "w"], ["y"])], {}, 17)
    if not is_node:
        model.graph.sparse_initializer.append(sparse)
    path = tmp_path / "own.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="dense tensor. Received: 'w', which is sparse"):
        load_onnx(path)


def test_a_branch_is_refused_by_name(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "branch", [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], "odd", then_branch=branch, else_branch=branch)
    model = model_of([node], {"c": np.array(True)}, 17)
    with pytest.raises(ExportError, match=r"same for every image. Received: 'odd' \(If\)"):
        load_onnx(written(model, tmp_path))
