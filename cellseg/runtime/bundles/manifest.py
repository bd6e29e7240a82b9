"""The manifest of a bundle: what a model is, in words and numbers, schema ``cellseg.bundle/1``.

:class:`ModelCard` holds what is known when training ends (a run writes it as ``model.json``);
:class:`Manifest` adds what the export measures: receptive field, halo and, per variant, size, hash
and quality. Both refuse unknown keys, so that a misspelled one cannot be lost in silence.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

__all__ = [
    "SCHEMA",
    "Agreement",
    "Channel",
    "ClassInfo",
    "Head",
    "InputSpec",
    "InteriorBorder",
    "Manifest",
    "ModelCard",
    "NormalizeSpec",
    "Quality",
    "Variant",
    "VersusFp32",
    "manifest_schema",
]

SCHEMA = "cellseg.bundle/1"

MAX_VARIANT_BYTES = 2**31 - 1  # what a protobuf message can hold
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Byte = Annotated[int, Field(ge=0, le=255)]
FitSide = Annotated[int, Field(ge=1, le=2**16)]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
    )


class ClassInfo(_Part):
    """One class of the class map; its place in the list is its value, 0 being background."""

    name: str = Field(min_length=1, max_length=100)
    color: tuple[Byte, Byte, Byte]


class Channel(_Part):
    """One output channel of the network."""

    name: str = Field(min_length=1, max_length=100)
    class_index: int | None = Field(default=None, ge=0)
    """Class whose probability this channel is part of; None for an extra map (a distance)."""


class InteriorBorder(_Part):
    """Instances grown from seeds where the interior channel is sure, bounded by the class map."""

    kind: Literal["interior-border"] = "interior-border"
    interior_channel: int = Field(ge=0)
    seed_threshold: Unit
    seed_blur_px: float = Field(default=0.0, ge=0.0, le=16.0)
    """Sigma of the Gaussian that smooths the interior channel before seeds are taken, pixels."""
    seed_depth: float = Field(default=1.0, gt=0.0, le=1.0)
    """How far the channel must fall between two seeds; 1: a piece above the threshold is one."""
    min_seed_px: int = Field(default=0, ge=0)
    """Smallest seed, in pixels; smaller ones do not start a cell of their own."""
    min_area_px: int = Field(ge=0)
    """Smallest cell, in pixels."""
    sure_probability: float = Field(default=0.8, gt=0.0, le=1.0)
    """Probability of foreground from which a pixel of a cell is sure."""
    min_sure: Unit = 0.0
    """Least share of a cell's pixels that are sure; a fainter one is no cell. 0: all are cells."""
    neck_depth: Unit = 0.0
    """How far the distance to a cell's edge must fall, of its maximum, between two round parts of
    the cell for these to be cells of their own. 0: no cell is parted by its shape."""
    least_diameter_px: float = Field(default=0.0, ge=0.0)
    """Diameter below which cells run together, as was measured, pixels. 0: none is known."""


class Head(_Part):
    """How the output channels are to be read."""

    kind: Literal["softmax", "sigmoid"]
    instances: InteriorBorder | None = None


class NormalizeSpec(_Part):
    """Intensity range of the input, one for a whole slide."""

    kind: Literal["none", "slide-percentile"] = "none"
    low: float = Field(default=0.0, ge=0.0, le=100.0)
    high: float = Field(default=100.0, ge=0.0, le=100.0)

    @model_validator(mode="after")
    def _is_ordered(self) -> NormalizeSpec:
        if self.low >= self.high:
            raise ValueError(f"low must be < high. Received: low={self.low}, high={self.high}.")
        return self


class InputSpec(_Part):
    """What the graph takes: uint8 RGB, scaled inside."""

    dtype: Literal["uint8"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"
    channels: Literal[3] = 3
    normalize: NormalizeSpec = NormalizeSpec()
    fit: Literal["native", "whole", "both"] = "native"
    """Training saw images at their own scale, whole ones brought to ``fit_px``, or both."""
    fit_px: tuple[FitSide, FitSide] | None = None
    """Height and width that a whole plain image is scaled to fit, its aspect kept; null: none."""

    @model_validator(mode="after")
    def _has_a_size_to_fit(self) -> InputSpec:
        if (self.fit == "native") != (self.fit_px is None):
            raise ValueError(
                "fit_px is for fit whole and both, and needed there. "
                f"Received: fit={self.fit}, fit_px={self.fit_px}."
            )
        return self


class Quality(_Part):
    """Quality that was measured on labelled images."""

    dataset: str = Field(min_length=1)
    images: int = Field(ge=1)
    dice: dict[str, Unit]
    """Class name to mean per-image Dice; background is left out, and so is, of several classes,
    one that no image shows. An image without a class counts only if it was found there."""
    object_f1: Unit | None = None
    """Mean per-image F1 of objects matched at IoU 0.5; None for a model without instances."""
    count_error: float | None = Field(default=None, ge=0.0)
    """|found - true| / true, over the objects of all images together."""
    engine: str | None = None
    """Engine that computed it."""


class VersusFp32(_Part):
    """What a variant keeps of fp32's quality, data sets counting alike: worst class and engine."""

    dice_ratio: float = Field(ge=0.0)
    object_f1_ratio: float | None = Field(default=None, ge=0.0)
    count_drift: float | None = Field(default=None, ge=0.0)
    """Relative change of the number of objects found."""

    @property
    def kept(self) -> float:
        """The least of what is kept: Dice, F1, and objects neither lost nor added."""
        f1 = 1.0 if self.object_f1_ratio is None else self.object_f1_ratio
        return min(self.dice_ratio, f1, 1.0 - (self.count_drift or 0.0))


class Agreement(_Part):
    """How far a variant says what fp32 says of tiles that nobody labelled; nothing of the truth."""

    tiles: int = Field(ge=1)
    """Representative tiles that were held out: none of them gave ranges."""
    dice: dict[str, Unit]
    """Class name to Dice with fp32's pixels, over all tiles together; background is left out, and
    so is a class that fp32 finds on no tile."""
    object_f1: Unit | None = None
    """F1 of cells matched with fp32's at IoU 0.5, over all tiles together; None without
    instances."""
    count_drift: float | None = Field(default=None, ge=0.0)
    """|found - fp32's| / fp32's, over the cells of all tiles together."""
    cells: int | None = Field(default=None, ge=0)
    """Cells that fp32 found: what F1 and drift rest on."""
    engine: str | None = None
    """Engine that computed the variant."""

    @property
    def kept(self) -> float:
        """The least of what agrees: pixels of a class, cells, and their number."""
        f1 = 1.0 if self.object_f1 is None else self.object_f1
        return min(*self.dice.values(), f1, 1.0 - (self.count_drift or 0.0))

    @property
    def words(self) -> str:
        """The figures in one line."""
        parts = [f"Dice {name} {value:.4f}" for name, value in self.dice.items()]
        if self.object_f1 is not None:
            parts.append(f"object F1 {self.object_f1:.4f}")
        if self.count_drift is not None:
            parts.append(f"count drift {self.count_drift:.2%} of {self.cells} cells")
        engine = f", {self.engine}" if self.engine else ""
        return f"agreement with fp32 ({self.tiles} tiles{engine}): {', '.join(parts)}"


class Variant(_Part):
    """One model file."""

    file: str
    format: Literal["onnx", "tflite"]
    precision: Literal["fp32", "fp16", "int8"]
    scheme: Literal["u8s8", "s8s8"] | None = None
    """Signedness of activations and weights of an int8 ONNX file; None otherwise."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1, le=MAX_VARIANT_BYTES)
    quality: tuple[Quality, ...] = ()
    vs_fp32: VersusFp32 | None = None
    agreement: tuple[Agreement, ...] = ()
    """With fp32, an entry an engine; only where no labelled images were at hand."""

    @model_validator(mode="after")
    def _has_a_plain_file_name(self) -> Variant:
        if not _FILE_NAME.fullmatch(self.file) or not self.file.endswith(f".{self.format}"):
            raise ValueError(
                f"file must be a plain name that ends in .{self.format}. Received: {self.file!r}."
            )
        return self

    @model_serializer(mode="wrap")
    def _without_empty_agreement(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, object]:
        """Leave the key out where it says nothing: older versions refuse keys they do not know."""
        fields: dict[str, object] = serialize(self)
        if not self.agreement:
            fields.pop("agreement", None)
        return fields

    @property
    def retained(self) -> float | None:
        """Share of fp32 that is kept; 1 for fp32 itself, None where not measured.

        Of its quality on labelled images; without any, the agreement with it by the worst engine.
        """
        if self.precision == "fp32":
            return 1.0
        if self.vs_fp32 is not None:
            return self.vs_fp32.kept
        return min((found.kept for found in self.agreement), default=None)


class ModelCard(_Part):
    """What is known of a model before it is exported."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    version: str = Field(min_length=1, max_length=64)
    description: str
    license: str
    classes: tuple[ClassInfo, ...] = Field(min_length=2, max_length=256)
    channels: tuple[Channel, ...] = Field(min_length=1, max_length=1024)
    head: Head
    threshold: Unit | None = None
    """Two classes: foreground where its probability is at least this. None: the likeliest class."""
    mpp: float | None = Field(default=None, gt=0.0)
    """Microns per pixel the model was trained at, whole images after scaling; None if it has no
    scale."""
    stride: int = Field(ge=1, le=1024)
    """Height, width and origin of every tile are multiples of it."""
    input: InputSpec = InputSpec()
    provenance: dict[str, object] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _classes_and_channels_fit(self) -> ModelCard:
        _check_unique("class", [item.name for item in self.classes])
        _check_unique("channel", [item.name for item in self.channels])
        used = {item.class_index for item in self.channels} - {None}
        first = 0 if self.head.kind == "softmax" else 1  # sigmoid: background is what is left
        missing = sorted(set(range(first, len(self.classes))) - used)
        if missing or any(index >= len(self.classes) for index in used if index is not None):
            raise ValueError(
                "channels must cover every class and no other. "
                f"Received: class_index={sorted(used, key=str)}, classes={len(self.classes)}."
            )
        return self

    @model_validator(mode="after")
    def _head_fits(self) -> ModelCard:
        if self.threshold is not None and len(self.classes) != 2:
            raise ValueError(
                "threshold is for two classes; use null with more. "
                f"Received: threshold={self.threshold}, classes={len(self.classes)}."
            )
        rule = self.head.instances
        if rule is not None and rule.interior_channel >= len(self.channels):
            raise ValueError(
                "interior_channel must be one of the channels. Received: "
                f"interior_channel={rule.interior_channel}, channels={len(self.channels)}."
            )
        return self


class Manifest(ModelCard):
    """A model card with what the export measured, and the files."""

    schema_id: Literal["cellseg.bundle/1"] = Field(default="cellseg.bundle/1", alias="schema")
    halo_px: int = Field(ge=0)
    """Margin of a tile that is read but not kept; a multiple of the stride."""
    receptive_field_px: int = Field(ge=0)
    """Measured: how far past a tile's edge, a multiple of the stride, the output still changes."""
    halo_tolerance: float = Field(default=0.0, ge=0.0, le=1.0)
    """Largest change of a probability that the halo leaves; 0 where it covers the whole field."""
    variants: tuple[Variant, ...] = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _halo_fits(self) -> Manifest:
        if self.halo_px % self.stride:
            raise ValueError(
                "halo_px must be a multiple of the stride. "
                f"Received: halo_px={self.halo_px}, stride={self.stride}."
            )
        if self.halo_tolerance == 0.0 and self.halo_px < self.receptive_field_px:
            raise ValueError(
                "an exact halo must cover the receptive field. Received: "
                f"halo_px={self.halo_px}, receptive_field_px={self.receptive_field_px}."
            )
        return self

    @model_validator(mode="after")
    def _variants_fit(self) -> Manifest:
        _check_unique("variant file", [variant.file for variant in self.variants])
        known = {item.name for item in self.classes}
        for variant in self.variants:
            named = [*(item.dice for item in variant.quality)]
            named += [item.dice for item in variant.agreement]
            for dice in named:
                unknown = sorted(set(dice) - known)
                if unknown:
                    raise ValueError(f"dice must name classes. Received: {unknown}.")
        return self

    def to_bytes(self) -> bytes:
        """Serialize to the bytes that a bundle holds: JSON, two spaces, UTF-8, fixed key order."""
        return (self.model_dump_json(by_alias=True, indent=2) + "\n").encode()


def manifest_schema() -> str:
    """Return the JSON Schema of the manifest, as kept in ``docs/schema/bundle.schema.json``."""
    from cellseg.json_schema import schema_text

    return schema_text(Manifest)


def _check_unique(noun: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"each {noun} must have its own name. Received twice: {twice}.")
