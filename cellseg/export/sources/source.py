"""Where an export starts: a training run, a ``.keras`` file, or an ONNX file of the user's own.

All three become the same things: a card that says what the model is, a plain graph, and a function
that computes what the original computes, to compare with.
"""

from __future__ import annotations

import re
from colorsys import hsv_to_rgb
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from pydantic import ValidationError

from cellseg.errors import ExportError
from cellseg.export.checks.parity import keras_predict
from cellseg.export.from_keras.common import BY_ONNX
from cellseg.export.from_keras.input_range import fed, output_layer
from cellseg.export.onnx_graph.reach import total_stride
from cellseg.export.passes import run_passes
from cellseg.export.passes.fold_channel_order import FoldChannelOrder
from cellseg.export.passes.take_bgr import TakeBgr
from cellseg.export.sources.card import CARD_FILE, KERAS_FILE, keep_channels, locate_run, read_card
from cellseg.export.sources.translate import plain_graph, tidied
from cellseg.runtime.bundles.bundle import ModelCard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from cellseg.export.options import ExportOptions

    Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

__all__ = ["Source", "open_source"]

_REASON = 500  # characters; Keras repeats the whole configuration of a layer
_BACKGROUND_COLOR = (0, 0, 0)
_COLORS = ((40, 220, 80), (240, 80, 60), (70, 120, 250), (250, 210, 40), (200, 80, 220))


@dataclass(frozen=True)
class Source:
    """What is exported."""

    file: Path
    """The Keras or ONNX file."""

    card: ModelCard
    """What the model is, kept channels only."""

    plain: onnx.ModelProto
    """uint8 (N, H, W, 3) to float32 (N, H, W, C), see `translate.plain_graph`."""

    predict: Predict
    """The original, by its own framework: uint8 (h, w, 3) to float32 (h, w, C)."""

    framework: str
    """Package that made the file, for the manifest."""

    tile_hw: tuple[int, int] | None = None
    """The only size that ``predict`` takes; None: any."""


def open_source(options: ExportOptions) -> Source:
    """Read what is to be exported.

    Raises
    ------
    ExportError
        If a file is missing or of another kind, a layer has no counterpart, or the classes do not
        fit the output.
    """
    if options.run.suffix.lower() == ".onnx":
        return _open_onnx(options)
    return _open_keras(options)


def _open_keras(options: ExportOptions) -> Source:
    if options.classes:
        file = options.run / KERAS_FILE if options.run.is_dir() else options.run
        loaded = _load_keras(file)
        _require_one_output(loaded)
        model = fed(loaded, file.name, options.input_scale, options.input_offset)
        head, trained = _keras_head(model), _keras_channels(model)
        whole = make_card(file.stem, options.classes, options.mpp, head, trained)
    else:
        _refuse_range(options)
        file, card_file = locate_run(options.run)
        whole = read_card(card_file)
        model = _load_keras(file)
    card, channels = keep_channels(whole, options.keep_channels)
    plain = plain_graph(model, channels, len(whole.channels), options.halo_tolerance > 0)
    card = _with_stride(card, plain) if options.classes else card
    return _in_order(Source(file, card, plain, keras_predict(model, channels), "keras"), options)


def _open_onnx(options: ExportOptions) -> Source:
    from cellseg.export.from_onnx.own_file import InputRange, read_onnx

    if not options.classes:
        raise ExportError(
            f"An ONNX file does not say what its classes are. Received: {options.run.name}, "
            "no classes.",
            hint="Name them, background first: --classes background,nucleus --mpp 0.5",
        )
    scale, told = options.input_scale or (1 / 255,), options.input_scale is not None
    given = InputRange(scale, options.input_offset, told)
    known = read_onnx(options.run, len(options.classes), given, options.halo_tolerance > 0)
    card = make_card(options.run.stem, options.classes, options.mpp, known.head, known.channels)
    if options.keep_channels is not None:
        raise ExportError("Channels can be left out of a Keras model only. Received: an ONNX file.")
    plain = tidied(known.model)
    card = _with_stride(card, plain)
    source = Source(options.run, card, plain, known.predict, "onnx", known.hw)
    return _in_order(source, options)


def _in_order(source: Source, options: ExportOptions) -> Source:
    """Return the source as it takes RGB, where its network was trained on BGR."""
    if options.channel_order == "rgb":
        return source
    plain = run_passes((TakeBgr(), FoldChannelOrder()), source.plain)
    return replace(source, plain=plain, predict=lambda tile: source.predict(tile[..., ::-1]))


def make_card(
    stem: str, classes: Sequence[str], mpp: float | None, head: str, channels: int
) -> ModelCard:
    """Make the card of a model that comes without one.

    Parameters
    ----------
    stem : str
        Name of its file.
    classes : sequence of str
        Names, background first.
    mpp : float or None
        Microns per pixel.
    head : str
        ``softmax`` (a channel a class) or ``sigmoid`` (background is what is left).
    channels : int
        Output channels of the network.

    Raises
    ------
    ExportError
        If classes and channels do not fit, or a name is not allowed.
    """
    first = 0 if channels == len(classes) else 1
    if channels != len(classes) - first:
        raise ExportError(
            "There must be a class a channel, or one more for background. "
            f"Received: {len(classes)} classes ({', '.join(classes)}), {channels} channels.",
            hint="Name every class with --classes, background first.",
        )
    name = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:64] or "model"
    fields: dict[str, Any] = {
        "name": name,
        "version": "1",
        "description": f"Made from {stem}.",
        "license": "unknown",
        "classes": [{"name": item, "color": _color(index)} for index, item in enumerate(classes)],
        "channels": [
            {"name": classes[index + first], "class_index": index + first}
            for index in range(channels)
        ],
        "head": {"kind": head},
        "threshold": 0.5 if len(classes) == 2 else None,
        "mpp": mpp,
        "stride": 1,
    }
    try:
        return ModelCard.model_validate(fields)
    except ValidationError as error:
        raise ExportError(
            f"What is said of a model must fit a bundle. Received: {_first_of(error)}."
        ) from error


def _color(index: int) -> tuple[int, int, int]:
    """Return a colour for a class: its own, however many there are."""
    if index == 0:
        return _BACKGROUND_COLOR
    if index <= len(_COLORS):
        return _COLORS[index - 1]
    hue = index * 0.618 % 1  # steps of the golden ratio come back to no hue soon
    red, green, blue = (round(255 * part) for part in hsv_to_rgb(hue, 0.6, 0.95))
    return red, green, blue


def _first_of(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}={first['input']!r}: {first['msg']}"


def _with_stride(card: ModelCard, plain: onnx.ModelProto) -> ModelCard:
    return card.model_copy(update={"stride": total_stride(plain)})


def _refuse_range(options: ExportOptions) -> None:
    told = options.input_scale is not None or any(options.input_offset)
    if told or options.channel_order != "rgb":
        raise ExportError(
            "A run knows what its network is fed. "
            f"Received: input_scale={options.input_scale}, input_offset={options.input_offset}, "
            f"channel_order={options.channel_order}.",
            hint="Leave out --input-scale, --input-offset and --channel-order; they are for a lone "
            "file.",
        )


def _require_one_output(model: Any) -> None:
    """Refuse several outputs of which nothing says what they are, as ``model.json`` would."""
    if getattr(model, "outputs", None) is None:  # a Sequential that never saw an image
        raise ExportError(
            "A model must know what it takes and gives. Received: one that was never built.",
            hint="Begin it with keras.Input((None, None, 3)), or call it on an image of the size "
            "it is for, before it is trained and saved.",
        )
    names = getattr(model, "output_names", [])  # a Sequential has none, and one output
    if len(names) > 1:
        raise ExportError(
            f"A model must have one result. Received: {len(names)}, "
            f"{', '.join(repr(name) for name in names)}.",
            hint="Save the one that is wanted as a model of its own: "
            "keras.Model(model.input, model.outputs[0]).save('one.keras').",
        )


def _keras_head(model: Any) -> str:
    layer = output_layer(model)
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", type(layer).__name__.lower())
    if name not in ("softmax", "sigmoid"):
        raise ExportError(
            f"A model must end in softmax or sigmoid. Received: {layer.name!r} with {name}.",
            hint="Put keras.layers.Softmax(), or Activation('sigmoid') for one channel, at its "
            f"end; or write {CARD_FILE} beside the file, which says how its output is to be read.",
        )
    return str(name)


def _keras_channels(model: Any) -> int:
    shape = tuple(model.outputs[0].shape)
    if len(shape) != 4 or shape[-1] is None:
        raise ExportError(
            f"A model must give a map of shape (N, H, W, C). Received: an output of shape {shape}.",
            hint=f"A model of data_format='channels_first' goes by way of ONNX: {BY_ONNX}",
        )
    return int(shape[-1])


def _load_keras(path: Path) -> Any:
    import keras

    if not is_zipfile(path):  # of which Keras says that there is no such file
        raise ExportError(
            f"{path.name} must be a Keras 3 model. Received: a damaged file, or another kind.",
            hint="Copy it again, or save it again with model.save('model.keras').",
        )

    from cellseg.layers import in_full_precision  # registers our layers as well

    try:
        return in_full_precision(keras.saving.load_model(path, compile=False, safe_mode=True))
    except (ValueError, TypeError, OSError) as error:
        reason = str(error).partition("Full object config")[0].strip()
        raise ExportError(
            f"{path.name} must be a Keras 3 model. Received: {reason[:_REASON]}",
            hint="A layer, model or function of one's own has its code elsewhere: there, "
            f"{BY_ONNX}",
        ) from error
