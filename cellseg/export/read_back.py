"""The weights of a bundle, read back into the Keras network that it was made from.

A bundle is what is passed on; the checkpoint behind it seldom is. Most passes of an export move,
repeat and scale weights, so where each one went is seen by exporting the network with numbers for
weights: 1000, 1001, and so on. BatchNorm was folded into the convolution before it and comes back
as a norm that does nothing (`cellseg.layers.folded`). Where weights were mixed, as by a BatchNorm
that was folded into the convolution behind it, the network that comes out computes something else,
which is found, and the bundle is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from cellseg.errors import ExportError
from cellseg.export.checks.parity import MAX_DIFFERENCE, keras_predict, measure_parity
from cellseg.export.sources.translate import float_graph
from cellseg.layers.folded import is_norm, set_folded
from cellseg.runtime.evaluation.quality import ModelRunner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.bundles.bundle import Bundle

__all__ = ["read_back"]

_INTEGER = 0.2  # a number divided by its scale, in float32, lies as near to an integer
_FIRST = 1000  # number of the first weight; the graphs' own constants are smaller
_TILES = 2


def read_back(bundle: Bundle, model: Any) -> None:
    """Give a network the weights of a bundle that was exported from its like.

    Parameters
    ----------
    bundle : Bundle
        Has a float32 ONNX file.
    model : keras.Model
        The same network, with any weights; its weights are set.

    Raises
    ------
    ExportError
        If the network is another one, or a weight cannot be found again.
    """
    plain = [v for v in bundle.variants if (v.format, v.precision) == ("onnx", "fp32")]
    if not plain:
        raise ExportError(
            f"Weights are read from a float32 ONNX file. Received: {bundle.path.name} without one."
        )
    data = bundle.read_variant(plain[0].file)
    channels = range(len(bundle.manifest.channels))
    places = _places(model)
    count = sum(place.size for place in places)
    _set(places, np.arange(_FIRST, _FIRST + count, dtype=np.float32))
    numbered = _constants(float_graph(model, channels, int(model.outputs[0].shape[-1])))
    weights = _found(numbered, _constants(onnx.load_from_string(data)), _scales(model), count)
    missing = int(np.isnan(weights).sum())
    if missing:
        raise _unlike(bundle, f"{missing} of {count} weights are not in it")
    _set(places, weights)
    _check(bundle, data, model)


class _Place:
    """A variable of a network, flattened."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable
        self.size = int(np.prod(variable.shape))

    def assign(self, values: NDArray[np.float32]) -> None:
        self._variable.assign(values.reshape(self._variable.shape))


def _places(model: Any) -> list[_Place]:
    """Return what holds weights once norms do nothing: kernels, biases and the norms' offsets."""
    places = []
    for layer in model.layers:
        if is_norm(layer):
            set_folded(layer)
            places.append(_Place(layer.beta))
        elif _feeds_a_norm(layer):  # its bias and the norm's offset are one number in the bundle
            layer.bias.assign(np.zeros(layer.bias.shape, np.float32))
            places.append(_Place(layer.kernel))
        else:
            places += [_Place(variable) for variable in layer.trainable_variables]
    return places


def _feeds_a_norm(layer: Any) -> bool:
    if not getattr(layer, "use_bias", False):
        return False
    takers = [node.operation for node in layer._outbound_nodes]
    return len(takers) == 1 and is_norm(takers[0])


def _set(places: list[_Place], values: NDArray[np.float32]) -> None:
    ends = np.cumsum([place.size for place in places])
    for place, part in zip(places, np.split(values, ends[:-1]), strict=True):
        place.assign(part)


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def _scales(model: Any) -> list[float]:
    """Return what a weight may be multiplied by on its way: the scaling of the input is folded."""
    scales = [getattr(layer, "scale", 1.0) for layer in model.layers]
    return [1.0, *(float(scale) for scale in scales if isinstance(scale, float))]


def _found(
    numbered: dict[str, NDArray[Any]],
    actual: dict[str, NDArray[Any]],
    scales: list[float],
    count: int,
) -> NDArray[np.float32]:
    """Return the weights in the order of their numbers; NaN: not found."""
    weights = np.full(count, np.nan, np.float32)
    for name, numbers in numbered.items():
        values = actual.get(name)
        if values is None or values.shape != numbers.shape or numbers.dtype != np.float32:
            continue
        at = numbers != 0  # blocks of zeros were put in between
        for scale in scales:
            index = numbers[at] / np.float64(scale) - _FIRST
            nearest = np.rint(index)
            inside = (nearest >= 0) & (nearest < count)
            if np.all(inside & (np.abs(index - nearest) < _INTEGER)):
                weights[nearest.astype(np.int64)] = values[at] / scale
                break
    return weights


def _check(bundle: Bundle, data: bytes, model: Any) -> None:
    """Compare the network with the file, on noise."""
    side_px = -(-64 // bundle.manifest.stride) * bundle.manifest.stride
    random = np.random.default_rng(0)
    tiles = [random.integers(0, 256, (side_px, side_px, 3), np.uint8) for _ in range(_TILES)]
    runner = ModelRunner(data, bundle.manifest, "onnxruntime", "fp32", 1)
    channels = range(len(bundle.manifest.channels))
    parity = measure_parity(keras_predict(model, channels), runner, tiles)
    runner.close()
    if not parity.max_difference <= MAX_DIFFERENCE:
        raise _unlike(bundle, f"results differ by up to {parity.max_difference:.2g}")


def _unlike(bundle: Bundle, reason: str) -> ExportError:
    return ExportError(
        "Weights can be read back into the network that a bundle was exported from. "
        f"Received: {bundle.path.name}: {reason}.",
        hint="Begin with the run it was exported from: --from runs/NAME.",
    )
