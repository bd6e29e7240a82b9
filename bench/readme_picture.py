"""Cut the README's picture out of the demo's overlay: whole slide at the left, nuclei at the right.

    python bench/readme_picture.py cellseg-out/cmu-1-small-region/overlay.jpg

after ``make demo``.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
from pages import DOCS

HEIGHT_PX = 640
WINDOW_YX = (1000, 880)


def main() -> None:
    """Write docs/images/demo-overlay.jpg."""
    overlay = cv2.imread(sys.argv[1])
    width = round(overlay.shape[1] * HEIGHT_PX / overlay.shape[0])
    whole = cv2.resize(overlay, (width, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    y, x = WINDOW_YX
    part = overlay[y : y + HEIGHT_PX, x : x + HEIGHT_PX]
    gap = np.full((HEIGHT_PX, 8, 3), 255, np.uint8)
    picture = np.hstack([whole, gap, part])
    target = DOCS / "images" / "demo-overlay.jpg"
    target.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(target), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
