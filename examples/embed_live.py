"""A microscope program that segments what its camera sees: python examples/embed_live.py [FRAMES].

The camera is a slide here; yours hands over its own arrays. Nothing is copied on the way in or out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg import LiveSession
from cellseg.live.frame import FrameMeta
from cellseg.runtime.slides.readers import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

DEMO_SLIDE = Path(__file__).parent / "cmu-1-small-region.svs"
SIDE_PX, STEP_PX, MPP = 512, 64, 0.499


def main(frames: int = 8) -> None:
    with LiveSession("nuclei", mpp=MPP, policy="block", tile_px=SIDE_PX) as session:
        session.on_result(lambda found: print(f"frame {found.meta.frame_id}: {found.counts}"))
        session.on_drop(lambda meta, reason: print(f"frame {meta.frame_id} dropped: {reason}"))
        session.on_error(lambda meta, error: print(f"frame {meta.frame_id}: {error}"))
        for number, image in enumerate(camera(frames)):
            stage_um = (number * STEP_PX * MPP, 0.0, 0.0)
            session.submit(image, FrameMeta.now(number, stage_xyz_um=stage_um))
        session.wait_idle()
        state = session.snapshot().as_dict()
    print(f"sent {state['sent']}, done {state['done']}, dropped {state['dropped']}")


def camera(frames: int) -> Iterator[np.ndarray]:
    """Move over a slide to the right, a step a frame."""
    slide = open_slide(DEMO_SLIDE)
    try:
        for number in range(frames):
            x = number * STEP_PX % (slide.levels[0].width_px - SIDE_PX)
            yield slide.read_region(0, (1024, x), (SIDE_PX, SIDE_PX))
    finally:
        slide.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
