"""How fast smears are made, against the seed's 65,350 images in 30 minutes on two cores.

    python bench/synthesize.py --data DATA --count 2000 --workers 2 -o bench/results/synthesize.json

``DATA`` holds ``wbc_tecom`` and ``rbc_smear_points``. The time to cut cells out is counted apart:
it is spent once, however many images are made.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from cellseg.data.smear.cutouts import cut_red_cells, cut_white_cells
from cellseg.data.smear.synthesize import SmearOptions, synthesize_smears
from cellseg.runtime.machine.facts import this_machine

SEED_IMAGES, ALLOWED_S = 65_350, 1800.0


def main() -> None:
    """Cut, paste, and print what it means for the seed's number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    red, platelets = cut_red_cells(options.data / "rbc_smear_points")
    cells = cut_white_cells(options.data / "wbc_tecom") + red + platelets
    cut_s = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        smears = SmearOptions(count=options.count, workers=options.workers)
        report = synthesize_smears(cells, Path(folder) / "smears", smears)
        paste_s = time.perf_counter() - started
    made = sum(report.images.values())
    result = {
        "images": made,
        "workers": options.workers,
        "cut_s": round(cut_s, 2),
        "paste_s": round(paste_s, 2),
        "images_per_s": round(made / paste_s, 1),
        "seed_images_s": round(cut_s + SEED_IMAGES * paste_s / made, 1),
        "allowed_s": ALLOWED_S,
        "machine": asdict(this_machine()),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
