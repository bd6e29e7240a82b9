"""Where an export starts: a training run, a ``.keras`` file, or an ONNX file of the user's own.

All three become the same things: a card that says what the model is, a plain graph, and a function
that computes what the original computes, to compare with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cellseg.errors import ExportError
from cellseg.export.card import CARD_FILE, KERAS_FILE, keep_channels, locate_run, read_card
from cellseg.export.parity import keras_predict
from cellseg.export.reach import total_stride
from cellseg.export.translate import plain_graph, tidied
from cellseg.runtime.bundle import ModelCard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from cellseg.export.options import ExportOptions

    Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

__all__ = ["Source", "open_source"]

_COLORS = ((0, 0, 0), (40, 220, 80), (240, 80, 60), (70, 120, 250), (250, 210, 40), (200, 80, 220))


@dataclass(frozen=True)
class Source:
    """What is exported."""

    file: Path
    """The Keras or ONNX file."""

    card: ModelCard
    """What the model is, kept channels only."""

    plain: onnx.ModelProto
    """uint8 (N, H, W, 3) to float32 (N, H, W, C); see `cellseg.export.translate.plain_graph`."""

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
        model = _load_keras(file)
        head, trained = _keras_head(model), _keras_channels(model)
        whole = make_card(file.stem, options.classes, options.mpp, head, trained)
    else:
        file, card_file = locate_run(options.run)
        whole = read_card(card_file)
        model = _load_keras(file)
    card, channels = keep_channels(whole, options.keep_channels)
    plain = plain_graph(model, channels, len(whole.channels), options.halo_tolerance > 0)
    card = _with_stride(card, plain) if options.classes else card
    return Source(file, card, plain, keras_predict(model, channels), "keras")


def _open_onnx(options: ExportOptions) -> Source:
    from cellseg.export.onnx_source import read_onnx

    if not options.classes:
        raise ExportError(
            f"An ONNX file does not say what its classes are. Received: {options.run.name}, "
            "no classes.",
            hint="Name them, background first: --classes background,nucleus --mpp 0.5",
        )
    known = read_onnx(options.run, len(options.classes), options.input_scale, options.input_offset)
    card = make_card(options.run.stem, options.classes, options.mpp, known.head, known.channels)
    if options.keep_channels is not None:
        raise ExportError("Channels can be left out of a Keras model only. Received: an ONNX file.")
    plain = tidied(known.model)
    return Source(options.run, _with_stride(card, plain), plain, known.predict, "onnx", known.hw)


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
        "classes": [
            {"name": item, "color": _COLORS[index % len(_COLORS)]}
            for index, item in enumerate(classes)
        ],
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
            f"Classes must fit a bundle. Received: {list(classes)}: {error.errors()[0]['msg']}."
        ) from error


def _with_stride(card: ModelCard, plain: onnx.ModelProto) -> ModelCard:
    return card.model_copy(update={"stride": total_stride(plain)})


def _keras_head(model: Any) -> str:
    activation = getattr(model.layers[-1], "activation", None)
    name = getattr(activation, "__name__", type(model.layers[-1]).__name__.lower())
    if name not in ("softmax", "sigmoid"):
        raise ExportError(
            f"A model must end in softmax or sigmoid. Received: {model.layers[-1].name!r} "
            f"with {name}.",
            hint=f"Or write {CARD_FILE} beside the file, which says how its output is to be read.",
        )
    return str(name)


def _keras_channels(model: Any) -> int:
    return sum(int(tensor.shape[-1] or 0) for tensor in model.outputs)


def _load_keras(path: Path) -> Any:
    import keras

    from cellseg.layers import in_full_precision  # registers our layers as well

    try:
        return in_full_precision(keras.saving.load_model(path, compile=False, safe_mode=True))
    except (ValueError, TypeError, OSError) as error:
        raise ExportError(f"{path.name} must be a Keras 3 model. Received: {error}.") from error
