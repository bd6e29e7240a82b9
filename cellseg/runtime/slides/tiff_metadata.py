"""What a TIFF file says about itself beyond its pixels: OME-XML, and microns per pixel.

Vendors put the pixel size in different places; two tables list them, the explicit ones first.
Magnification is not among them: a 20x scanner may well sample at 0.23 microns. The resolution tags
every TIFF has are believed only within what a scanner or camera can have: 72 dpi was left behind by
an image editor.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cellseg.errors import SlideError
from cellseg.runtime.slides.channels import are_rgb
from cellseg.runtime.slides.slide import DISBELIEVED
from cellseg.runtime.slides.units import um_per

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tifffile import TiffPage

    from cellseg.runtime.slides.channels import Colour

__all__ = ["OmeImage", "disbelieved", "find_mpp", "plausible_mpp", "read_ome", "stated_mpp"]

Mpp = tuple[float, float]

_EXPLICIT_UM = (0.005, 200.0)
_IMPLIED_UM = (0.05, 20.0)
_UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}


@dataclass(frozen=True)
class OmeImage:
    """The image of an OME-TIFF that is read: its largest."""

    width_px: int
    height_px: int
    channels: int
    """SizeC: samples and planes together."""

    planes: int
    """SizeZ * SizeT."""

    samples: int
    """Samples per pixel of its first channel."""

    ifds: tuple[int, ...]
    """Page of each channel, in order; one where the samples are interleaved."""

    mpp: Mpp | None
    files: int
    """Number of files that its planes lie in."""

    name: str
    """Name of the image; empty where it has none."""

    channel_names: tuple[str | None, ...]
    """Of the channels that are described: some writers leave them out."""

    channel_colours: tuple[Colour | None, ...]
    others: tuple[str, ...] = ()
    """Images in the same file that are not read and have over a quarter of its pixels: no level,
    label or thumbnail of it."""

    @property
    def is_rgb(self) -> bool:
        """Whether three channels, each with a page of its own, may be red, green and blue."""
        return self.channels == 3 and are_rgb(self.channel_names, self.channel_colours)


def read_ome(description: str, path: str, page_samples: int = 1) -> OmeImage | None:
    """Parse OME-XML.

    Parameters
    ----------
    description : str
        ImageDescription of the first page.
    path : str
        For messages.
    page_samples : int
        Samples per pixel of the first page, which count where the XML does not say them.

    Returns
    -------
    OmeImage or None
        None where the description is not OME-XML.

    Raises
    ------
    SlideError
        If the XML is damaged or its pixels lie in another file.
    """
    if "<OME" not in description[:4096] and "<ome:OME" not in description[:4096]:
        return None
    if "<!ENTITY" in description or "<!DOCTYPE" in description:
        raise SlideError(f"{path}: OME-XML must not define entities.")
    try:
        root = ElementTree.fromstring(description.strip().rstrip("\0"))
    except ElementTree.ParseError as error:
        raise SlideError(f"{path}: the OME-XML is damaged: {error}.") from error
    if next(_children(root, "BinaryOnly"), None) is not None:
        raise _spread_error(path)
    images = [
        _ome_image(image, pixels, page_samples)
        for image in root.iter()
        if _name(image) == "Image"
        for pixels in _children(image, "Pixels")
    ]
    if not images:
        raise SlideError(f"{path}: the OME-XML names no image.")
    chosen = max(images, key=_area)
    if chosen.files > 1:
        raise _spread_error(path)
    others = tuple(
        f"{image.name or 'unnamed'} ({image.width_px} x {image.height_px})"
        for image in images
        if image is not chosen and _area(image) * 4 > _area(chosen)
    )
    return replace(chosen, others=others)


def find_mpp(page: TiffPage, ome: OmeImage | None) -> tuple[Mpp | None, str]:
    """Find the pixel size of the full-resolution page.

    Parameters
    ----------
    page : TiffPage
        Page of level 0.
    ome : OmeImage, optional
        What the OME-XML says.

    Returns
    -------
    ((float, float) or None, str)
        Microns per pixel (x, y) and the place they were found, ``"none"`` where there is none.
    """
    if ome is not None and plausible_mpp(ome.mpp):
        return ome.mpp, "OME PhysicalSize"
    for sources, limits in ((_EXPLICIT_SOURCES, _EXPLICIT_UM), (_IMPLIED_SOURCES, _IMPLIED_UM)):
        for name, source in sources.items():
            mpp = source(page)
            if plausible_mpp(mpp, limits):
                return mpp, name
    return None, "none"


def plausible_mpp(mpp: Mpp | None, limits_um: tuple[float, float] = _EXPLICIT_UM) -> bool:
    """Say whether an instrument can have this pixel size, near enough to square."""
    lowest, highest = limits_um
    if mpp is None or not all(math.isfinite(v) and lowest <= v <= highest for v in mpp):
        return False
    return 0.5 <= mpp[0] / mpp[1] <= 2.0


def stated_mpp(page: TiffPage, ome: OmeImage | None) -> Mpp | None:
    """Return the pixel size that a file states on purpose, whether it can be true or not."""
    stated = (ome and ome.mpp, *(source(page) for source in _EXPLICIT_SOURCES.values()))
    return next((mpp for mpp in stated if mpp), None)


def disbelieved(mpp: Mpp | None) -> dict[str, str]:
    """Return what a slide's ``properties`` say of a stated pixel size that cannot be true.

    Examples
    --------
    >>> disbelieved((250.0, 250.0)), disbelieved((0.25, 0.25)), disbelieved(None)
    ({'not believed': '250 x 250 µm a pixel'}, {}, {})
    """
    is_size = mpp is not None and all(math.isfinite(side) and side > 0 for side in mpp)
    if mpp is None or not is_size or plausible_mpp(mpp):
        return {}
    return {DISBELIEVED: f"{mpp[0]:.4g} x {mpp[1]:.4g} µm a pixel"}


def _mpp_of_aperio(page: TiffPage) -> Mpp | None:
    found = re.search(r"\bMPP\s*=\s*([\d.,eE+-]+)", page.description)
    return _square(found.group(1)) if found else None


def _mpp_of_philips(page: TiffPage) -> Mpp | None:
    """Philips writes DICOM's spacing, millimetres as (row, column)."""
    pattern = r'DICOM_PIXEL_SPACING"[^>]*>\s*&?q?u?o?t?;?"?([\d.eE+-]+)"?[^\d]*([\d.eE+-]+)'
    found = re.search(pattern, page.description)
    if found is None:
        return None
    row, column = _number(found.group(1)), _number(found.group(2))
    return (column * 1e3, row * 1e3)


def _mpp_of_openslide(page: TiffPage) -> Mpp | None:
    """Programs that convert slides keep OpenSlide's properties in the description."""
    pattern = r"openslide\.mpp-{}</name>\s*<value[^>]*>([\d.eE+-]+)<"
    x, y = (re.search(pattern.format(axis), page.description) for axis in "xy")
    return (_number(x.group(1)), _number(y.group(1))) if x and y else None


def _mpp_of_imagej(page: TiffPage) -> Mpp | None:
    if not page.description.startswith("ImageJ="):
        return None
    found = re.search(r"^unit=(.+)$", page.description, re.MULTILINE)
    return _from_resolution(page, um_per(found.group(1)) if found else None)


def _mpp_of_resolution(page: TiffPage) -> Mpp | None:
    return _from_resolution(page, _UM_PER_RESOLUTION_UNIT.get(page.tags.valueof(296, 0)))


_EXPLICIT_SOURCES: dict[str, Callable[[TiffPage], Mpp | None]] = {
    "Aperio MPP": _mpp_of_aperio,
    "Philips DICOM_PIXEL_SPACING": _mpp_of_philips,
    "OpenSlide properties": _mpp_of_openslide,
}
_IMPLIED_SOURCES: dict[str, Callable[[TiffPage], Mpp | None]] = {
    "ImageJ unit": _mpp_of_imagej,
    "TIFF resolution": _mpp_of_resolution,
}


def _from_resolution(page: TiffPage, um_per_unit: float | None) -> Mpp | None:
    if um_per_unit is None:
        return None
    x, y = _ratio(page.tags.valueof(282)), _ratio(page.tags.valueof(283))
    return None if x <= 0 or y <= 0 else (um_per_unit / x, um_per_unit / y)


def _ratio(value: object) -> float:
    """Return a resolution: mostly a fraction, of some writers a number; 0 for anything else."""
    numbers = value if isinstance(value, tuple) else (value,)
    if len(numbers) > 2 or not all(isinstance(number, (int, float)) for number in numbers):
        return 0.0
    over, under = (*numbers, 1)[:2]
    return float(over / under) if under > 0 else 0.0


def _number(text: str) -> float:
    try:
        return float(text.replace(",", ".").rstrip("."))
    except ValueError:
        return math.nan


def _square(text: str) -> Mpp:
    return _number(text), _number(text)


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _name(child) == name)


def _area(image: OmeImage) -> int:
    return image.width_px * image.height_px


def _ome_image(
    image: ElementTree.Element, pixels: ElementTree.Element, page_samples: int
) -> OmeImage:
    channels = int(pixels.get("SizeC", 1))
    about = list(_children(pixels, "Channel"))
    stated = about[0].get("SamplesPerPixel") if about else None
    samples = page_samples if stated is None else int(stated)
    data = list(_children(pixels, "TiffData"))
    names = {uuid.text or uuid.get("FileName") for item in data for uuid in _children(item, "UUID")}
    return OmeImage(
        width_px=int(pixels.get("SizeX", 0)),
        height_px=int(pixels.get("SizeY", 0)),
        channels=channels,
        planes=int(pixels.get("SizeZ", 1)) * int(pixels.get("SizeT", 1)),
        samples=samples,
        ifds=_ome_ifds(data, max(1, channels // max(1, samples))),
        mpp=_ome_mpp(pixels),
        files=max(1, len(names)),
        name=image.get("Name", ""),
        channel_names=tuple(channel.get("Name") for channel in about),
        channel_colours=tuple(_ome_colour(channel.get("Color", "")) for channel in about),
    )


def _ome_colour(text: str) -> Colour | None:
    """Read a signed 32-bit number, red in the highest byte, opacity in the lowest."""
    if re.fullmatch(r"-?\d{1,10}", text) is None:
        return None
    red, green, blue, _ = (int(text) & 0xFFFFFFFF).to_bytes(4, "big")
    return red, green, blue


def _ome_ifds(data: list[ElementTree.Element], count: int) -> tuple[int, ...]:
    """List the page of each channel; a TiffData without IFD starts at page 0."""
    if len(data) >= count > 1:
        ordered = sorted(data, key=lambda item: int(item.get("FirstC", 0)))
        return tuple(int(item.get("IFD", 0)) for item in ordered[:count])
    start = int(data[0].get("IFD", 0)) if data else 0
    return tuple(range(start, start + count))


def _ome_mpp(pixels: ElementTree.Element) -> Mpp | None:
    sizes = []
    for axis in "XY":
        um = um_per(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        sizes.append(_number(pixels.get(f"PhysicalSize{axis}", "nan")) * (um or math.nan))
    return None if any(math.isnan(size) for size in sizes) else (sizes[0], sizes[1])


def _spread_error(path: str) -> SlideError:
    return SlideError(
        f"{path}: this OME-TIFF's pixels are spread over several files.",
        hint="Export it as a single OME-TIFF file, for example with QuPath or bfconvert.",
    )
