"""Export the shipped model: every gate, every modality by itself.

    python bench/export_nuclei.py runs/nuclei runs/sources -o cellseg/models/nuclei.cellseg

``runs/sources`` is laid out by ``bench/source_folders.py``. Ranges of int8 come from the training
split, the choice between int8 files from validation, the quality in the manifest from test.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from cellseg.export.export import ExportOptions, export_run


def main() -> None:
    """Export and print the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("sources", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--keep", default="background,interior,border")
    parser.add_argument("--min-quality", type=float, default=0.99)
    parser.add_argument("--target", default="onnx,tflite,tensorrt")
    parser.add_argument("--precision", default="fp32,fp16,int8")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    names = sorted(path.name for path in (options.sources / "test").iterdir())
    report = export_run(
        ExportOptions(
            run=options.run,
            output=options.out,
            representative=tuple(options.sources / "train" / name for name in names),
            select=tuple((name, options.sources / "valid" / name) for name in names),
            evaluate=tuple((name, options.sources / "test" / name) for name in names),
            keep_channels=tuple(options.keep.split(",")),
            min_quality=options.min_quality,
            targets=tuple(options.target.split(",")),
            precisions=tuple(options.precision.split(",")),
        )
    )
    print(json.dumps(report.to_json(), indent=2))


if __name__ == "__main__":
    main()
