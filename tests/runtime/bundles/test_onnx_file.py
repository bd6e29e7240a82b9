"""The few facts read from ONNX bytes agree with the onnx package."""

from __future__ import annotations

import contextlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from cellseg.errors import BundleError
from cellseg.runtime.bundles.onnx_file import read_onnx_facts
from tests.bundles import tiny_onnx


def external_tensor(name: str) -> onnx.TensorProto:
    tensor = helper.make_tensor(name, onnx.TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def test_versions_are_those_the_onnx_package_reads() -> None:
    facts = read_onnx_facts(tiny_onnx())
    assert (facts.ir_version, facts.opsets, facts.external_tensors) == (8, {"": 17}, ())


def test_external_initializer_is_found() -> None:
    model = onnx.load_from_string(tiny_onnx())
    model.graph.initializer.append(external_tensor("far"))
    assert read_onnx_facts(model.SerializeToString()).external_tensors == ("far",)


def test_external_tensor_deep_in_a_branch_is_found() -> None:
    model = onnx.load_from_string(tiny_onnx())
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value=external_tensor("deep"))], "inner", [], []
    )
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner))
    assert read_onnx_facts(model.SerializeToString()).external_tensors == ("deep",)


def test_external_tensor_in_a_function_is_found() -> None:
    model = onnx.load_from_string(tiny_onnx())
    node = helper.make_node("Constant", [], ["y"], value=external_tensor("inside"))
    model.functions.append(
        helper.make_function("own", "f", [], ["y"], [node], [helper.make_opsetid("", 17)])
    )
    assert read_onnx_facts(model.SerializeToString()).external_tensors == ("inside",)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_model_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with contextlib.suppress(BundleError):
        assert read_onnx_facts(data).external_tensors == ()


@pytest.mark.parametrize("keep", [0, 1, 7, 100])
def test_truncated_model_is_refused(keep: int) -> None:
    with pytest.raises(BundleError, match="must"):
        read_onnx_facts(tiny_onnx()[:keep])
