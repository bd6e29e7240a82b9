"""OME-Zarr (NGFF 0.4 and 0.5) as a slide, through the zarr package (the ``[zarr]`` extra).

A store is a folder: a group whose attributes describe one pyramid (``multiscales``), and one array
a level. In 0.4 the attributes lie in ``.zattrs``, in 0.5 below ``ome`` in ``zarr.json``. Stored
tiles are the arrays' chunks (inside shards: the inner chunks)::

    slide.ome.zarr/                     axes: any order of t, c, z, y, x
        zarr.json | .zattrs             t and z of length 1; c absent, 1, or 3 (RGB)
        0/  full resolution
        1/  ...

A chunk that was never written holds the array's fill value.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellseg.errors import DOCTOR_HINT, SlideError
from cellseg.runtime.slides.channels import are_rgb, channels_error, pick_channel
from cellseg.runtime.slides.slide import (
    OTHER_IMAGES,
    Level,
    check_window,
    is_evenly_reduced,
    level_downsample,
    rgb_from_samples,
)
from cellseg.runtime.slides.source_tiles import CACHE_BYTES, SourceTiles, TileGrid, UndecodableError
from cellseg.runtime.slides.tiff_metadata import disbelieved, plausible_mpp
from cellseg.runtime.slides.units import um_per

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.slides.channels import Channel, Colour, Wanted
    from cellseg.runtime.slides.slide import Slide

__all__ = ["NgffSlide", "is_zarr_folder", "open_ngff"]

_GROUP_FILES = (".zgroup", ".zattrs", ".zarray", "zarr.json")
_MAX_CHUNK_BYTES = 512 << 20
_MAX_PIXELS = 1 << 40
_IMAGE_MAX_PX = 64_000_000
_MISSING_HINT = "pip install 'cellseg[zarr]'"
_DAMAGED_HINT = "The store is incomplete or damaged: copy or export it again."


@dataclass(frozen=True)
class _Multiscales:
    """What the attributes say of one pyramid."""

    version: str
    axes: tuple[str, ...]
    """Name of each dimension, lower case."""

    units: tuple[str | None, ...]
    paths: tuple[str, ...]
    """Array of each level, full resolution first."""

    scale: tuple[float, ...] | None
    """Units per pixel of level 0, by dimension; None where nothing is said."""

    channel_names: tuple[str | None, ...]
    """Of the channels that are described (``omero``)."""

    channel_colours: tuple[Colour | None, ...]
    others: tuple[str, ...]
    """Names of further pyramids in the same group, which are not read."""

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Microns per pixel (x, y)."""
        if self.scale is None:
            return None
        sizes = [self._um("x"), self._um("y")]
        return None if any(math.isnan(size) for size in sizes) else (sizes[0], sizes[1])

    def _um(self, axis: str) -> float:
        index = self.axes.index(axis)
        assert self.scale is not None  # or `mpp` had not asked
        return self.scale[index] * (um_per(self.units[index] or "") or math.nan)


class NgffSlide:
    """An OME-Zarr store as a slide.

    Parameters
    ----------
    path : Path
        The folder.
    mpp : float, optional
        Overrides what the store says.
    channel : str or int, optional
        The only one to read, as grey: its name (``omero``) or number.
    cache_bytes : int
        Decoded chunks to keep, in bytes.

    Raises
    ------
    SlideError
        If the ``[zarr]`` extra is not installed, or the store holds something other than one grey
        or RGB image of 8 or 16 bits and no channel of it is chosen.
    """

    def __init__(
        self,
        path: Path,
        mpp: float | None = None,
        channel: Wanted = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.path = str(path)
        root = _open_root(path)
        about = _multiscales_of(root, self.path)
        self._axes = about.axes
        is_one = channel is not None
        arrays = [_array_of(root, name, about, self.path, is_one) for name in about.paths]
        _check_pyramid([_hw_of(array, self._axes) for array in arrays], self.path)
        self._arrays = _evenly_reduced(arrays, self._axes)
        self.channel = self._chosen(about, channel)
        grids = [self._grid_of(array) for array in self._arrays]
        self.levels = tuple(_level_of(grids[0], grid) for grid in grids)
        found = about.mpp if plausible_mpp(about.mpp) else None
        self.mpp = found if mpp is None else (mpp, mpp)
        self.kind: Literal["slide", "image"] = _kind_of(self.levels)
        self.dtype = np.dtype(np.uint16 if self._arrays[0].dtype.itemsize == 2 else np.uint8)
        mpp_from = "given" if mpp is not None else "OME-Zarr scale" if found else "none"
        self.properties = _properties(self._arrays[0], about, self._channels, grids[0], mpp_from)
        if self.mpp is None:
            self.properties |= disbelieved(about.mpp)
        if about.others:
            self.properties[OTHER_IMAGES] = ", ".join(about.others[:8])
        self._read_channels = slice(None)
        if self.channel is not None:
            self.properties |= self.channel.properties()
            self._read_channels = slice(self.channel.index, self.channel.index + 1)
        self.source = SourceTiles(self.path, grids, self.dtype, self._decode, cache_bytes)

    def read_region(self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[Any]:
        """Read a window; see :meth:`cellseg.runtime.slides.slide.Slide.read_region`."""
        check_window(self, level, l_yx, hw)
        return self.source.window(level, l_yx, hw)

    def close(self) -> None:
        """Drop the decoded chunks; a store has no file that stays open."""
        self.source.cache.clear()

    @property
    def _channels(self) -> int:
        return int(self._arrays[0].shape[self._axes.index("c")]) if "c" in self._axes else 1

    def _chosen(self, about: _Multiscales, wanted: Wanted) -> Channel | None:
        """Settle which channel is read; without one the image must be grey or RGB."""
        count = self._channels
        names = (*about.channel_names, *[None] * count)[:count]
        if wanted is not None:
            return pick_channel(self.path, wanted, names)
        is_rgb = count == 3 and are_rgb(about.channel_names, about.channel_colours)
        if count != 1 and not is_rgb:
            raise channels_error(self.path, names)
        return None

    def _grid_of(self, array: Any) -> TileGrid:
        y, x = self._axes.index("y"), self._axes.index("x")
        return TileGrid(*_hw_of(array, self._axes), int(array.chunks[y]), int(array.chunks[x]))

    def _decode(self, level: int, row: int, col: int) -> NDArray[Any]:
        grid = self.source.grids[level]
        h, w = grid.clip(row, col)
        y0, x0 = row * grid.tile_h, col * grid.tile_w
        spans = {"y": slice(y0, y0 + h), "x": slice(x0, x0 + w), "c": self._read_channels}
        try:
            samples = np.asarray(self._arrays[level][tuple(spans.get(a, 0) for a in self._axes)])
        except Exception as error:  # each codec has exceptions of its own
            text = f"{type(error).__name__}: {error}".splitlines()[0][:200].rstrip(".: ")
            raise UndecodableError(text) from error
        kept = [axis for axis in self._axes if axis in spans]
        order = [kept.index(axis) for axis in "yxc" if axis in kept]
        native = samples.transpose(order).astype(self._arrays[level].dtype.newbyteorder("="))
        return rgb_from_samples(native)


def open_ngff(path: Path, mpp: float | None = None, channel: Wanted = None) -> Slide:
    """Open an OME-Zarr folder.

    Raises
    ------
    SlideError
        If it cannot be read.
    """
    return NgffSlide(path, mpp, channel)


def is_zarr_folder(path: Path) -> bool:
    """Say whether a folder is a zarr group or array."""
    return path.is_dir() and any((path / name).is_file() for name in _GROUP_FILES)


def _open_root(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise SlideError(
            f"{path}: OME-Zarr needs the zarr package. Received: {error}.",
            hint=_MISSING_HINT if error.name == "zarr" else DOCTOR_HINT,
        ) from error
    try:
        root = zarr.open(str(path), mode="r")
    except Exception as error:  # zarr raises many kinds on damaged metadata
        raise SlideError(
            f"{path}: cannot be opened as zarr: {type(error).__name__}: {error}.",
            hint="OME-Zarr 0.5 (zarr format 3) needs zarr 3 and Python 3.11. " + _DAMAGED_HINT,
        ) from error
    if hasattr(root, "shape"):
        raise SlideError(
            f"{path}: a zarr array, but not an image with its levels.",
            hint="Give the folder above it, the one whose attributes hold 'multiscales'.",
        )
    return root


def _multiscales_of(root: Any, path: str) -> _Multiscales:
    about = _about(root)
    found = about.get("multiscales")
    if not found:
        raise _no_image(about, root, path)
    if "image-label" in about:
        raise SlideError(
            f"{path}: a label image, not a picture: its values are numbers of objects.",
            hint="Give the image's own folder, two levels above labels/<name>.",
        )
    try:
        version = str(about.get("version", found[0].get("version", "0.4")))
        return _parsed(found, version, (about.get("omero") or {}).get("channels") or [])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise SlideError(
            f"{path}: the multiscales attributes are not those of OME-Zarr 0.4 or 0.5: "
            f"{type(error).__name__}: {error}.",
            hint="Write it again with ome-zarr-py, bioformats2raw or QuPath.",
        ) from error


def _about(group: Any) -> dict[str, Any]:
    """Return what a group says of itself: all its attributes, or those below ``ome`` since 0.5."""
    attributes = dict(group.attrs)
    about = attributes.get("ome", attributes)
    return about if isinstance(about, dict) else {}


def _no_image(about: dict[str, Any], root: Any, path: str) -> SlideError:
    """Say what a group without ``multiscales`` is, and where the image may be."""
    if "plate" in about or "well" in about:
        return SlideError(
            f"{path}: a plate of several images.", hint="Give one field: PLATE.zarr/A/1/0."
        )
    if "labels" in about:
        return SlideError(
            f"{path}: it holds label images only: {', '.join(map(str, about['labels']))}.",
            hint="Labels are results; give the folder of the image that they were made from.",
        )
    groups = sorted(root.groups())
    # Beside its images bioformats2raw puts a group of metadata.
    images = [name for name, group in groups if "multiscales" in _about(group)]
    inside = (images or [name for name, _ in groups])[:3]
    hint = "An OME-Zarr image has 'multiscales' in its attributes (.zattrs, or ome in zarr.json)."
    if inside:
        hint = f"Is it one of the groups inside? {', '.join(f'{path}/{name}' for name in inside)}."
    return SlideError(f"{path}: a zarr group without 'multiscales': not an OME-Zarr image.", hint)


def _parsed(
    pyramids: list[dict[str, Any]], version: str, channels: list[dict[str, Any]]
) -> _Multiscales:
    given, *others = pyramids  # the first is the default, as the format has it
    axes = tuple(str(axis["name"]).lower() for axis in given["axes"])
    if not {"y", "x"} <= set(axes) <= set("tczyx") or len(set(axes)) < len(axes):
        raise ValueError(f"axes must be y and x, and at most t, c, z besides, not {axes}")
    datasets = given["datasets"]
    units = tuple(axis.get("unit") for axis in given["axes"])
    own, common = _scale_in(datasets[0]), _scale_in(given)
    scale = own or common
    if own is not None and common is not None:
        scale = [a * b for a, b in zip(own, common, strict=True)]
    if scale is not None and len(scale) != len(axes):
        raise ValueError(f"a scale must have one number for each axis, not {scale}")
    paths = tuple(str(dataset["path"]) for dataset in datasets)
    return _Multiscales(
        version=version,
        axes=axes,
        units=units,
        paths=paths,
        scale=None if scale is None else tuple(scale),
        channel_names=tuple(channel.get("label") for channel in channels),
        channel_colours=tuple(_colour(str(channel.get("color"))) for channel in channels),
        others=tuple(str(other.get("name") or "unnamed") for other in others),
    )


def _colour(text: str) -> Colour | None:
    """Read six hexadecimal digits."""
    if re.fullmatch(r"[0-9A-Fa-f]{6}", text) is None:
        return None
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _scale_in(given: dict[str, Any]) -> list[float] | None:
    for transformation in given.get("coordinateTransformations") or ():
        if transformation.get("type") == "scale":
            return [float(value) for value in transformation["scale"]]
    return None


def _array_of(root: Any, name: str, about: _Multiscales, path: str, is_one: bool) -> Any:
    """Open a level's array and refuse what cannot be an image, before a chunk is read."""
    try:
        array = root[name]
        shape, chunks = tuple(array.shape), tuple(array.chunks)
    except Exception as error:  # KeyError, or what damaged metadata raises
        raise SlideError(
            f"{path}: level {name!r} is named in the attributes, but cannot be opened: "
            f"{type(error).__name__}.",
            hint=_DAMAGED_HINT,
        ) from error
    if len(shape) != len(about.axes):
        raise SlideError(
            f"{path}: an array must have one dimension for each axis. Received: level={name}, "
            f"shape={shape}, axes={''.join(about.axes)}.",
            hint=_DAMAGED_HINT,
        )
    sizes = dict(zip(about.axes, shape, strict=True))
    _check_sizes(sizes, f"{path}: level {name}")
    pieces = dict(zip(about.axes, chunks, strict=True))
    channels = (pieces if is_one else sizes).get("c", 1)
    decoded = channels * pieces["y"] * pieces["x"] * array.dtype.itemsize
    if not 0 < decoded <= _MAX_CHUNK_BYTES or min(chunks) < 1:
        raise SlideError(
            f"{path}: a chunk must decode to at most {_MAX_CHUNK_BYTES >> 20} MB. "
            f"Received: level={name}, chunks={chunks}.",
            hint="Write the store again with chunks of 256 to 2048 pixels.",
        )
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.bool_):
        raise SlideError(
            f"{path}: pixels must be unsigned integers of at most 16 bits. "
            f"Received: dtype={array.dtype}.",
            hint="Write it again with 8 or 16 bits a sample, its values from 0 up.",
        )
    return array


def _check_sizes(sizes: dict[str, int], name: str) -> None:
    if sizes["y"] < 1 or sizes["x"] < 1 or sizes["y"] * sizes["x"] > _MAX_PIXELS:
        raise SlideError(
            f"{name}: an image must have at least one pixel and be below a million megapixels. "
            f"Received: width={sizes['x']}, height={sizes['y']}."
        )
    if sizes.get("t", 1) != 1 or sizes.get("z", 1) != 1:
        raise SlideError(
            f"{name}: a slide must be one image. "
            f"Received: t={sizes.get('t', 1)}, z={sizes.get('z', 1)}.",
            hint="Save the plane that is to be segmented as a store of its own.",
        )


def _hw_of(array: Any, axes: tuple[str, ...]) -> tuple[int, int]:
    return int(array.shape[axes.index("y")]), int(array.shape[axes.index("x")])


def _evenly_reduced(arrays: list[Any], axes: tuple[str, ...]) -> list[Any]:
    """Leave out levels that are reduced more along one side: a level has one downsample."""
    full_hw = _hw_of(arrays[0], axes)
    return [array for array in arrays if is_evenly_reduced(full_hw, _hw_of(array, axes))]


def _check_pyramid(hws: list[tuple[int, int]], path: str) -> None:
    widths = [width for _, width in hws]
    if widths != sorted(widths, reverse=True):
        raise SlideError(
            f"{path}: levels must be listed from the largest to the smallest. "
            f"Received: widths={widths}.",
            hint=_DAMAGED_HINT,
        )


def _level_of(base: TileGrid, grid: TileGrid) -> Level:
    full_hw, part_hw = ((each.height_px, each.width_px) for each in (base, grid))
    return Level(grid.width_px, grid.height_px, level_downsample(full_hw, part_hw))


def _kind_of(levels: tuple[Level, ...]) -> Literal["slide", "image"]:
    is_small = levels[0].width_px * levels[0].height_px <= _IMAGE_MAX_PX
    return "image" if len(levels) == 1 and is_small else "slide"


def _properties(
    array: Any, about: _Multiscales, channels: int, grid: TileGrid, mpp_from: str
) -> dict[str, str]:
    return {
        "format": f"OME-Zarr {about.version}",
        "vendor": "unknown",
        "compression": _codec_of(array),
        "axes": "".join(about.axes),
        "samples": str(channels),
        "bits": str(array.dtype.itemsize * 8),
        "tile": f"{grid.tile_w}x{grid.tile_h}",
        "mpp from": mpp_from,
    }


def _codec_of(array: Any) -> str:
    """Name the compressor, in zarr 3's words or in zarr 2's."""
    codecs = getattr(array, "compressors", None)
    if codecs is None:
        codecs = [array.compressor] if getattr(array, "compressor", None) else []
    names = [getattr(codec, "codec_id", type(codec).__name__) for codec in codecs]
    return " ".join(name.removesuffix("Codec").lower() for name in names) or "none"
