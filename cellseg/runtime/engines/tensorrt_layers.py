"""What TensorRT made of a network: which convolutions it computes in int8, and where it reformats.

Read from the inspector's JSON where an engine can be opened, and from the builder's own listing
where it cannot, on a machine without a GPU. Both say the same of a layer: its kind, the types of
its tensors, and the ONNX nodes it came from.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellseg.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["EngineLayer", "LayerReport", "layers_from_inspector", "layers_from_log"]

_ONNX = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_TYPE = re.compile(r"Datatype: (\w+)")
_WORDS = {"Int8": "int8", "Half": "fp16", "Float": "fp32", "UInt8": "uint8", "BFloat16": "bf16"}


@dataclass(frozen=True)
class EngineLayer:
    """One kernel, or one copy, of an engine."""

    name: str
    """TensorRT's name for it."""

    kind: str
    """E.g. ``correlation``, ``kgen``, ``CaskConvolution``, ``Reformat``."""

    inputs: tuple[str, ...]
    """Types of the tensors it reads, e.g. ``int8``."""

    outputs: tuple[str, ...]
    """Types of the tensors it writes."""

    onnx: tuple[str, ...]
    """ONNX nodes it computes."""

    @property
    def is_convolution(self) -> bool:
        """Whether it multiplies; padding and rounding around it may name the same ONNX node."""
        return any(word in self.kind.lower() for word in ("correlation", "conv", "gemm"))

    @property
    def is_reformat(self) -> bool:
        """Whether it only brings a tensor into another form."""
        return "reformat" in f"{self.kind} {self.name}".lower()


@dataclass(frozen=True)
class LayerReport:
    """An engine's layers against the network's convolutions."""

    layers: tuple[EngineLayer, ...]
    """In the order they run."""

    convolutions: dict[str, str]
    """ONNX name of each convolution to the type it computes in: that of the tensor it reads."""

    @classmethod
    def of(cls, layers: Sequence[EngineLayer], convolutions: Iterable[str]) -> LayerReport:
        """Find the layer of each convolution by the ONNX nodes that TensorRT names.

        Raises
        ------
        EngineError
            If no layer says that it computes a convolution: the listing is not understood.
        """
        found = {}
        for name in convolutions:
            matching = [item for item in layers if name in item.onnx and item.inputs]
            matching = [item for item in matching if item.is_convolution] or matching
            if not matching:
                raise EngineError(
                    "TensorRT's layers must name every convolution. "
                    f"Received: none for {name!r} among {len(layers)} layers."
                )
            found[name] = matching[0].inputs[0]
        return cls(tuple(layers), found)

    @property
    def int8(self) -> tuple[str, ...]:
        """Convolutions in int8."""
        return tuple(name for name, kind in self.convolutions.items() if kind == "int8")

    @property
    def floats(self) -> tuple[str, ...]:
        """Convolutions in floating point."""
        return tuple(name for name, kind in self.convolutions.items() if kind != "int8")

    @property
    def reformats(self) -> tuple[str, ...]:
        """Layers that only bring a tensor into another form."""
        return tuple(layer.name for layer in self.layers if layer.is_reformat)

    def to_json(self) -> dict[str, Any]:
        """Return as plain values."""
        return {
            "layers": len(self.layers),
            "int8": list(self.int8),
            "floats": list(self.floats),
            "reformats": list(self.reformats),
        }


def layers_from_inspector(text: str) -> tuple[EngineLayer, ...]:
    """Read ``IEngineInspector.get_engine_information(JSON)``, of TensorRT 10, 11 and for RTX."""
    found = json.loads(text).get("Layers", [])
    # With names only (a plan built without details) a layer is a string.
    return tuple(_from_json(item) for item in found if isinstance(item, dict))


def layers_from_log(text: str) -> tuple[EngineLayer, ...]:
    """Read the listing that the builder logs at its most talkative; empty if there is none."""
    _, _, listing = text.rpartition("Layers:\nName: ")
    lines = ("Name: " + listing).splitlines() if listing else []
    return tuple(_from_line(line) for line in lines if ", LayerType: " in line)


def _from_json(item: dict[str, Any]) -> EngineLayer:
    return EngineLayer(
        name=str(item.get("Name", "")),
        kind=str(item.get("LayerType", "")),
        inputs=tuple(_type_of(tensor) for tensor in item.get("Inputs", [])),
        outputs=tuple(_type_of(tensor) for tensor in item.get("Outputs", [])),
        onnx=_onnx_names(str(item.get("Metadata", "")), str(item.get("Name", ""))),
    )


def _type_of(tensor: dict[str, Any]) -> str:
    """Type of a tensor; TensorRT 10 hides it in ``Format/Datatype``, "... INT8 format"."""
    for key in ("Datatype", "DataType"):
        if key in tensor:
            return _WORDS.get(str(tensor[key]), str(tensor[key]).lower())
    text = str(tensor.get("Format/Datatype", "")).upper()
    for word, name in (("INT8", "int8"), ("FP16", "fp16"), ("HALF", "fp16"), ("FP32", "fp32")):
        if word in text:
            return "uint8" if f"U{word}" in text else name
    return text.lower() or "unknown"


def _onnx_names(metadata: str, name: str) -> tuple[str, ...]:
    """ONNX nodes of a layer; older versions only join their names to its own by ``+``."""
    return tuple(_ONNX.findall(metadata)) or tuple(part.strip() for part in name.split(" + "))


def _from_line(line: str) -> EngineLayer:
    head, _, rest = line.partition(", Inputs: ")
    inputs, _, rest = rest.partition(", Constants: ")
    _, _, tail = rest.partition(", Outputs: ")
    name, _, kind = head.removeprefix("Name: ").partition(", LayerType: ")
    if not tail:  # no constants were listed
        inputs, _, tail = inputs.partition(", Outputs: ")
    return EngineLayer(
        name, kind, _types(inputs), _types(tail.partition(", TacticName: ")[0]),
        tuple(_ONNX.findall(tail)),
    )  # fmt: skip


def _types(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.get(word, word.lower()) for word in _TYPE.findall(text))
