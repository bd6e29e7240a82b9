"""Layers are read from what TensorRT 10, 11 and for RTX say of them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from cellseg.errors import EngineError
from cellseg.runtime.engines import tensorrt_api
from cellseg.runtime.engines.tensorrt_api import TensorRt, find_tensorrt
from cellseg.runtime.engines.tensorrt_layers import (
    EngineLayer,
    LayerReport,
    layers_from_inspector,
    layers_from_log,
)

RTX_LOG = """Engine generation completed in 0.5 seconds.
Layers:
Name: __myl_Quant_0, LayerType: kgen, Inputs: [ { Name: image, Datatype: UInt8 }], Constants: [ { Name: c, Datatype: Float }], Outputs: [ { Name: q, Datatype: Int8 }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: input][ONNX Layer: stem]
Name: stem_1, LayerType: correlation, Inputs: [ { Name: q, Datatype: Int8 }], Constants: [ { Name: w, Datatype: Int8 }], Outputs: [ { Name: r, Datatype: Float }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: stem][ONNX Layer: relu]
Name: head_2, LayerType: correlation, Inputs: [ { Name: r, Datatype: Half }], Constants: [], Outputs: [ { Name: p, Datatype: Half }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: head]

I/O Tensors:
 Name: image, IOMode: Input, DataType: UInt8
"""  # noqa: E501

TRT_10 = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to stem",
            "LayerType": "Reformat",
            "Inputs": [{"Name": "a", "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [{"Name": "b", "Format/Datatype": "Four wide channel vectorized INT8"}],
        },
        {
            "Name": "stem_conv + stem_relu",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "b", "Format/Datatype": "Thirty-two wide channel INT8 format"}],
            "Outputs": [{"Name": "c", "Format/Datatype": "Thirty-two wide channel INT8 format"}],
        },
    ],
    "Bindings": ["image"],
}
TRT_11 = {
    "Layers": [
        {
            "Name": "stem_myl0",
            "LayerType": "correlation",
            "Inputs": [{"Name": "b", "Datatype": "Int8", "Format": "NHWC"}],
            "Outputs": [{"Name": "c", "Datatype": "Half", "Format": "NHWC"}],
            "Metadata": "[ONNX Layer: stem_conv]\x1e[ONNX Layer: stem_relu]",
        }
    ],
    "I/O Tensors": [],
}


def test_listing_of_the_builder_is_read() -> None:
    layers = layers_from_log(RTX_LOG)
    assert [(layer.kind, layer.inputs, layer.outputs) for layer in layers] == [
        ("kgen", ("uint8",), ("int8",)),
        ("correlation", ("int8",), ("fp32",)),
        ("correlation", ("fp16",), ("fp16",)),
    ]
    report = LayerReport.of(layers, ["stem", "head"])
    assert report.convolutions == {"stem": "int8", "head": "fp16"}
    assert (report.int8, report.floats, report.reformats) == (("stem",), ("head",), ())


def test_log_without_a_listing_has_no_layers() -> None:
    assert layers_from_log("Engine generation completed.") == ()


def test_inspector_of_tensorrt_10_is_read() -> None:
    layers = layers_from_inspector(json.dumps(TRT_10))
    report = LayerReport.of(layers, ["stem_conv"])
    assert report.convolutions == {"stem_conv": "int8"}
    assert len(report.reformats) == 1


def test_inspector_of_tensorrt_11_is_read() -> None:
    layers = layers_from_inspector(json.dumps(TRT_11))
    assert layers == (
        EngineLayer("stem_myl0", "correlation", ("int8",), ("fp16",), ("stem_conv", "stem_relu")),
    )


def test_names_alone_are_no_layers() -> None:
    assert layers_from_inspector(json.dumps({"Layers": ["stem", "head"]})) == ()


def test_convolution_that_no_layer_names_is_an_error() -> None:
    with pytest.raises(EngineError, match="none for 'lost'"):
        LayerReport.of(layers_from_log(RTX_LOG), ["lost"])


def package(name: str, version: str) -> Any:
    return SimpleNamespace(__name__=name, __version__=version)


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.1"])
def test_native_versions_from_jetpack_6_on_are_taken(version: str) -> None:
    assert not TensorRt(package("tensorrt", version)).is_rtx


def test_older_native_version_is_refused() -> None:
    with pytest.raises(EngineError, match=r"10\.3 or newer. Received: 8\.6\.2"):
        TensorRt(package("tensorrt", "8.6.2"))


def test_rtx_has_versions_of_its_own() -> None:
    assert TensorRt(package("tensorrt_rtx", "1.7.1")).is_rtx


def test_native_is_preferred_and_a_broken_one_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {
        "tensorrt": package("tensorrt", "11.4.0"),
        "tensorrt_rtx": package("tensorrt_rtx", "1"),
    }
    monkeypatch.setattr(tensorrt_api, "find_spec", there.get)
    monkeypatch.setattr(tensorrt_api.importlib, "import_module", there.__getitem__)
    assert find_tensorrt().module.__name__ == "tensorrt"
    there["tensorrt"] = package("tensorrt", "8.5")
    assert find_tensorrt().is_rtx


def test_missing_package_comes_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_api, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="not installed") as raised:
        find_tensorrt()
    assert raised.value.hint == "pip install tensorrt-rtx-cu13"


def test_package_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(tensorrt_api, "find_spec", lambda name: name)
    monkeypatch.setattr(tensorrt_api.importlib, "import_module", broken)
    with pytest.raises(EngineError, match=r"libnvinfer\.so\.10"):
        find_tensorrt()
