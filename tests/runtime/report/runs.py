"""Finished runs to make reports of: bright discs found by a fake engine."""

from __future__ import annotations

from pathlib import Path

import cv2

from cellseg.runtime.jobs.outputs import DEFAULT_OUTPUTS
from tests.fakes import CELL_RULE, fake_bundle, nuclei_picture, run_fake


def finished_run(
    folder: Path,
    *,
    mpp: float | None = 0.5,
    cells: bool = True,
    hw: tuple[int, int] = (180, 240),
    image: str = "a & b.png",
    write: tuple[str, ...] = DEFAULT_OUTPUTS,
) -> Path:
    """Run a picture of discs, or one that is there; the folder of its result."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / image
    if not path.is_file():
        cv2.imwrite(str(path), nuclei_picture(*hw))
    head = {"kind": "softmax", "instances": CELL_RULE if cells else None}
    bundle = fake_bundle(folder / "fake.cellseg", head=head, threshold=0.5)
    result, _ = run_fake(
        path, folder / "out", bundle.path, kind="IdentityEngine", mpp=mpp, tile_px=64, write=write
    )
    return Path(result.folder)
