"""Small bundles for tests: a real (if tiny) ONNX network in a real bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cellseg.runtime.bundles.bundle import Bundle, Manifest, write_bundle
from tests.fakes import card_fields, variant_fields

STRIDE = 4
TINY_TFLITE = Path(__file__).with_name("data") / "tiny.fp32.tflite"
"""``tiny_onnx()`` as a .tflite file: making one needs TensorFlow, running it does not."""
TINY_INT8_TFLITE = TINY_TFLITE.with_name("tiny.int8.tflite")
"""The same in int8."""


def make_manifest(*variants: dict[str, Any], **changes: Any) -> Manifest:
    """Manifest of a model with a receptive-field radius of 2 px."""
    measured = {"halo_px": STRIDE, "receptive_field_px": 2, "variants": list(variants)}
    return Manifest.model_validate(card_fields(stride=STRIDE) | measured | changes)


def make_bundle(
    path: Path, data: bytes | None = None, tflite: bool = False, **changes: Any
) -> Bundle:
    """Write a bundle of one fp32 variant, or with ``tflite`` of two that compute the same."""
    files = {"model.fp32.onnx": tiny_onnx() if data is None else data}
    if tflite:
        files["model.fp32.tflite"] = TINY_TFLITE.read_bytes()
    entries = [
        variant_fields(content, file=name, format=name.rpartition(".")[2])
        for name, content in files.items()
    ]
    return write_bundle(path, make_manifest(*entries, **changes), files)


def tiny_onnx(seed: int = 0) -> bytes:
    """Two 3x3 convolutions and a softmax over two channels, uint8 NHWC in, float32 NHWC out."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.02, (8, 3, 3, 3)),
        "b1": rng.normal(0, 0.1, 8),
        "w2": rng.normal(0, 0.3, (2, 8, 3, 3)),
        "b2": rng.normal(0, 0.1, 2),
    }
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Transpose", ["image"], ["chw"], perm=[0, 3, 1, 2]),
            node("Cast", ["chw"], ["x0"], to=TensorProto.FLOAT),
            node("Conv", ["x0", "w1", "b1"], ["x1"], pads=[1, 1, 1, 1]),
            node("Relu", ["x1"], ["x2"]),
            node("Conv", ["x2", "w2", "b2"], ["x3"], pads=[1, 1, 1, 1]),
            node("Softmax", ["x3"], ["x4"], axis=1),
            node("Transpose", ["x4"], ["probabilities"], perm=[0, 2, 3, 1]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", "H", "W", 2])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
