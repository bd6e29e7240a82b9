"""Small slides and images that tests write, and what they must read back."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellseg.runtime.slides.slide import Slide

APERIO = (
    "Aperio Image Library v11.2.1 \r\n{w}x{h} [0,0 {w}x{h}] (128x128) JPEG/RGB Q=70"
    "|AppMag = 20|MPP = {mpp}"
)


def scene(height: int = 301, width: int = 407, dtype: Any = np.uint8) -> NDArray[Any]:
    """Paint a smooth RGB picture without symmetry, so that mixed-up axes or channels show."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red, green = 128 + 100 * np.sin(x / 20), 128 + 90 * np.cos(y / 15)
    blue = 200 * (x + 2 * y) / (width + 2 * height)
    top = np.iinfo(dtype).max
    return (np.dstack([red, green, blue]).clip(0, 255) / 255 * top).astype(dtype)


def grey(height: int = 301, width: int = 407, dtype: Any = np.uint8) -> NDArray[Any]:
    """Take one channel of ``scene``."""
    return np.ascontiguousarray(scene(height, width, dtype)[..., 0])


def halved(image: NDArray[Any], times: int = 1) -> NDArray[Any]:
    """Take every second pixel, ``times`` over."""
    step = 2**times
    height, width = (side // step * step for side in image.shape[:2])
    return np.ascontiguousarray(image[:height:step, :width:step])


def write_svs(path: Path, image: NDArray[Any], mpp: str = "0.499", **options: Any) -> Path:
    """Write a slide as Aperio lays it out: baseline, thumbnail, level 1, label, macro."""
    h, w = image.shape[:2]
    description = APERIO.format(w=w, h=h, mpp=mpp)
    common = {"photometric": "rgb", "metadata": None, "software": False, **options}
    strips = {"photometric": "rgb", "metadata": None, "rowsperstrip": 16, "compression": "jpeg"}
    with tifffile.TiffWriter(path) as tif:
        tif.write(image, tile=(128, 128), description=description, **common)
        tif.write(halved(image, 2), description="Aperio thumbnail", **strips)
        tif.write(halved(image), tile=(128, 128), description=description, **common)
        tif.write(scene(60, 50), description="Aperio label 50x60", **strips)
        tif.write(scene(40, 120), description="Aperio macro 120x40", **strips)
    return path


def write_pyramid(path: Path, image: NDArray[Any], *, subifds: bool, **options: Any) -> Path:
    """Write a generic pyramid of three levels, in the chain of pages or in SubIFDs."""
    common = {"tile": (64, 64), "photometric": "rgb", "metadata": None, **options}
    with tifffile.TiffWriter(path) as tif:
        tif.write(image, subifds=2 if subifds else 0, **common)
        for times in (1, 2):
            tif.write(halved(image, times), subfiletype=1, **common)
    return path


def write_philips(path: Path, image: NDArray[Any], levels: int, spacings: str = "") -> Path:
    """Write a pyramid as Philips lays it out: whole tiles, those of one value not written."""
    xml = (
        '<?xml version="1.0" encoding="UTF-8" ?>\n<DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES" PMSVR="IDataObjectArray"><Array>'
        '<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">WSI'
        '</Attribute><Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>'
        f"{spacings or philips_spacings(levels)}</Array></Attribute></DataObject></Array>"
        "</Attribute></DataObject>"
    )
    common = {"tile": (64, 64), "photometric": "rgb", "metadata": None, "compression": "jpeg"}
    with tifffile.TiffWriter(path) as tif:
        for level in range(levels):
            part = halved(image, level)
            hw = tuple(-(-side // 64) * 64 for side in part.shape[:2])
            padded = np.full((*hw, 3), 255, np.uint8)
            padded[: part.shape[0], : part.shape[1]] = part
            tiles = padded.reshape(hw[0] // 64, 64, hw[1] // 64, 64, 3).swapaxes(1, 2)
            tif.write(
                (tile if np.ptp(tile) else None for tile in tiles.reshape(-1, 64, 64, 3)),
                shape=padded.shape,
                dtype=np.uint8,
                subfiletype=int(level > 0),
                description=f"level={level}" if level else xml,
                software="Philips DP v1.0",
                **common,
            )
    return path


def philips_spacings(levels: int) -> str:
    """Return the XML that says how far pixels of each level lie apart, millimetres."""
    return "".join(
        '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING" '
        'Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">'
        f"&quot;{0.00025 * 2**level}&quot; &quot;{0.00025 * 2**level}&quot;</Attribute>"
        "</DataObject>"
        for level in range(levels)
    )


def tag_value_offset(path: Path, code: int, page: int = 0) -> int:
    """Find where the value of a tag lies in the file, to damage it."""
    with tifffile.TiffFile(path) as tif:
        return int(tif.pages[page].tags[code].valueoffset)  # type: ignore[union-attr]


def whole(slide: Slide, level: int = 0) -> NDArray[Any]:
    """Read a whole level."""
    extent = slide.levels[level]
    return slide.read_region(level, (0, 0), (extent.height_px, extent.width_px))


def pad_strips(path: Path) -> None:
    """Move the strips of an uncompressed page of a small-endian TIFF behind it, a byte after each.

    Their byte counts hold the byte, too, as writers have it that keep strips at even sizes.
    """
    with tifffile.TiffFile(path) as tif:
        page: Any = tif.pages[0]
        pairs = zip(page.dataoffsets, page.databytecounts, strict=True)
        data = path.read_bytes()
        strips = [data[start : start + count] + b"\xaa" for start, count in pairs]
        places = page.tags[273].valueoffset, page.tags[279].valueoffset
        kinds = ["<I" if page.tags[code].dtype == 4 else "<H" for code in (273, 279)]
    offset = len(data)
    for index, strip in enumerate(strips):
        for place, kind, value in zip(places, kinds, (offset, len(strip)), strict=True):
            overwrite(path, place + index * struct.calcsize(kind), struct.pack(kind, value))
        offset += len(strip)
    path.write_bytes(path.read_bytes() + b"".join(strips))


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Damage a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def loop_pages(path: Path) -> None:
    """Let the last page of a small-endian classic TIFF lead back to the first."""
    data = path.read_bytes()
    first = offset = struct.unpack_from("<I", data, 4)[0]
    while True:
        entries = struct.unpack_from("<H", data, offset)[0]
        link = offset + 2 + 12 * entries
        offset = struct.unpack_from("<I", data, link)[0]
        if offset == 0:
            overwrite(path, link, struct.pack("<I", first))
            return


def exif(orientation: int, order: str = "<") -> bytes:
    """Return an EXIF block that holds an orientation and nothing else."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0)
    return head + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)


def write_jpeg(path: Path, image: NDArray[Any], block: bytes) -> Path:
    """Write a JPEG with an EXIF block."""
    import imagecodecs

    data = imagecodecs.jpeg_encode(image, level=95)
    body = b"Exif\0\0" + block
    path.write_bytes(data[:2] + struct.pack(">HH", 0xFFE1, len(body) + 2) + body + data[2:])
    return path


def png(size: tuple[int, int], bits: int, colour: int, raw: bytes, *extra: Any) -> bytes:
    """Build a PNG by hand."""
    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
