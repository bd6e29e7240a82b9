"""Probabilities are not made of probabilities, and decisions are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellseg.errors import ExportError
from cellseg.export.from_onnx.own_file import InputRange, OnnxSource, read_onnx
from tests.export.graphs import noise, run_onnx

Nodes = list[onnx.NodeProto]


def node(op: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    """Make a node that is named as its output; "y" is the result."""
    output = attributes.pop("to_tensor", "y")
    return helper.make_node(op, [*inputs], [output], **attributes)


def saved(tail: Nodes, folder: Path, channels: int = 2, kind: int = TensorProto.FLOAT) -> Path:
    """Write a convolution to logits ("x"), and a tail to "y"."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.5, (channels, 3, 3, 3)).astype(np.float32),
        "half": np.array(0.5, np.float32), "one": np.array(1, np.float32),
        "full": np.array(255, np.float32), "zero": np.array(0, np.float32),
        "axis": np.array([1], np.int64),
    }  # fmt: skip
    conv = helper.make_node("Conv", ["image", "w"], ["x"], pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [conv, *tail], "own",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "own.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def read(path: Path, classes: int = 2) -> OnnxSource:
    return read_onnx(path, classes, InputRange())


def original(path: Path, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    fed = (image.astype(np.float32) * np.float32(1 / 255)).transpose(0, 3, 1, 2)
    return np.asarray(session.run(None, {"image": fed})[0])


SOFTMAX = node("Softmax", "x", axis=1, to_tensor="p")
PROBABLE: dict[str, tuple[Nodes, str]] = {
    "clipped softmax": ([SOFTMAX, node("Clip", "p", "zero", "one")], "softmax"),
    "softmax in NHWC and back": (
        [
            node("Transpose", "x", perm=[0, 2, 3, 1], to_tensor="t"),
            node("Softmax", "t", axis=-1, to_tensor="s"),
            node("Transpose", "s", perm=[0, 3, 1, 2]),
        ],
        "softmax",
    ),
    "spelled out": (
        [
            node("Exp", "x", to_tensor="e"),
            node("ReduceSum", "e", "axis", to_tensor="t"),
            node("Div", "e", "t"),
        ],
        "softmax",
    ),
    "tanh in 0..1": (
        [
            node("Tanh", "x", to_tensor="t"),
            node("Mul", "t", "half", to_tensor="h"),
            node("Add", "h", "half"),
        ],
        "sigmoid",
    ),
}


@pytest.mark.parametrize("name", PROBABLE)
def test_probabilities_in_disguise_stay_as_they_are(name: str, tmp_path: Path) -> None:
    tail, head = PROBABLE[name]
    path = saved(tail, tmp_path)
    source, images = read(path), noise(1, 16, 24)
    assert source.head == head
    expected = original(path, images).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(run_onnx(source.model, images), expected, atol=1e-6)
    np.testing.assert_allclose(source.predict(images[0]), expected[0], atol=1e-6)


@pytest.mark.parametrize("ending", ["Softmax", "Identity"])
def test_a_result_in_nhwc_is_taken(ending: str, tmp_path: Path) -> None:
    turned = node("Transpose", "x", perm=[0, 2, 3, 1], to_tensor="t")
    path = saved([turned, node(ending, "t")], tmp_path)
    images = noise(1, 16, 24)
    raw = original(path, images)
    powers = np.exp(raw)
    expected = raw if ending == "Softmax" else powers / powers.sum(-1, keepdims=True)
    np.testing.assert_allclose(run_onnx(read(path).model, images), expected, atol=1e-6)


@pytest.mark.parametrize(
    "tail",
    [
        [node("Sigmoid", "x", to_tensor="s"), node("Squeeze", "s", "axis")],
        [node("Squeeze", "x", "axis", to_tensor="s"), node("Sigmoid", "s")],
    ],
    ids=["sigmoid first", "sigmoid last"],
)
def test_a_map_without_an_axis_of_channels_is_taken(tail: Nodes, tmp_path: Path) -> None:
    path = saved(tail, tmp_path, channels=1)
    source, images = read(path), noise(1, 16, 24)
    assert (source.head, source.channels) == ("sigmoid", 1)
    found = run_onnx(source.model, images)[..., 0]
    np.testing.assert_allclose(found, original(path, images), atol=1e-6)
    assert not {"Squeeze", "Unsqueeze"} & {item.op_type for item in source.model.graph.node}


def test_an_identity_at_the_end_is_left_out(tmp_path: Path) -> None:
    path = saved([SOFTMAX, node("Identity", "p")], tmp_path)
    source, images = read(path), noise(1, 16, 24)
    assert source.head == "softmax"
    assert "Identity" not in {item.op_type for item in source.model.graph.node}
    expected = original(path, images).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(run_onnx(source.model, images), expected, atol=1e-6)


def test_probabilities_of_0_to_255_are_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tail = [node("Sigmoid", "x", to_tensor="s"), node("Mul", "s", "full")]
    read(saved(tail, tmp_path, channels=1))
    assert "lies in 0..2" in caplog.text
    assert "leave out what multiplies them" in caplog.text


DECIDED = {
    "argmax": ([node("ArgMax", "x", axis=1, keepdims=1)], TensorProto.INT64),
    "threshold": (
        [node("Greater", "x", "zero", to_tensor="b"), node("Cast", "b", to=TensorProto.FLOAT)],
        TensorProto.FLOAT,
    ),
}


@pytest.mark.parametrize("name", DECIDED)
def test_decisions_are_refused(name: str, tmp_path: Path) -> None:
    tail, kind = DECIDED[name]
    with pytest.raises(ExportError, match="Received: decisions") as caught:
        read(saved(tail, tmp_path, kind=kind))
    assert "without its argmax" in (caught.value.hint or "")


def test_a_softmax_needs_a_class_a_channel(tmp_path: Path) -> None:
    path = saved([node("Softmax", "x", axis=1)], tmp_path)
    with pytest.raises(ExportError, match="3 classes, 2 channels"):
        read(path, classes=3)


def test_a_softmax_along_rows_is_refused_by_name(tmp_path: Path) -> None:
    tail = [SOFTMAX, node("Softmax", "p", axis=3, name="odd")]
    with pytest.raises(ExportError, match=r"whole tile.*'odd' \(Softmax\)"):
        read(saved(tail, tmp_path))


def test_the_size_that_fails_is_the_one_that_is_named(tmp_path: Path) -> None:
    sizes = helper.make_node(
        "Constant", [], ["sizes"], value=numpy_helper.from_array(np.array([1, 2, 64, 64]))
    )
    tail = [sizes, node("Resize", "x", "", "", "sizes", mode="nearest")]
    with pytest.raises(ExportError, match=r"\(1, 2, 64, 64\) for an image of 64 x 128"):
        read(saved(tail, tmp_path))
