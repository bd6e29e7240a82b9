"""The tiled inferencer of the systems that this project succeeds, done again from its description.

Its grid, its resizing and its batch, with the network given here in the place of theirs:

- the image is divided into squares of the model's width; each is cut out with a margin of 128 px on
  the sides where the image goes on, and with black where it does not;
- the crop, margins included, is *resized* to the model's width: tiles inside run at two thirds of
  their scale, those at borders at other ones;
- one call a tile; the probability, in 256 steps, is resized back, its margins are cut off, and it
  is pasted, the last one winning;
- the whole image is always predicted once, too, shrunk to the model's width, and not used.

Image and mask are held in memory by Pillow, which refuses images above 179 megapixels. How crops
are shrunk is not said for tiles; nearest neighbour is taken, as for whole images. Foreground is 128
and more of 255.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from driver import Request, serve
from PIL import Image

MARGIN_PX = 128
FOREGROUND = 1


def run(request: Request) -> str:
    """Segment level 0 and save the class map as npy."""
    side = request.patch_px
    session = _session(request)
    image = Image.open(request.slide).convert("RGB")
    mask = Image.new("L", image.size)
    segment(session, image, mask, side)
    out = request.out + ".npy"
    np.save(out, (np.asarray(mask) >= 128).astype(np.uint8))
    return out


def segment(
    session: ort.InferenceSession, image: Image.Image, mask: Image.Image, side: int
) -> None:
    """Predict the whole image, which nothing is done with, and every tile into the mask."""
    _predict(session, image, side)
    for top in range(0, image.height, side):
        for left in range(0, image.width, side):
            _paste_tile(session, image, mask, (left, top), side)


def _session(request: Request) -> ort.InferenceSession:
    """Open the network; ``threads`` for both pools, which the original forces to one."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = request.threads
    options.inter_op_num_threads = request.threads
    return ort.InferenceSession(request.model, options, providers=["CPUExecutionProvider"])


def _predict(session: ort.InferenceSession, image: Image.Image, side: int) -> Image.Image:
    """Return the foreground's probability of an image as grey, of the image's size."""
    shrunk = np.asarray(image.resize((side, side), Image.Resampling.NEAREST), np.float32)
    (found,) = session.run(None, {"image": shrunk.transpose(2, 0, 1)[np.newaxis]})
    grey = (found[0, FOREGROUND] * 255).astype(np.uint8)
    return Image.fromarray(grey).resize(image.size, Image.Resampling.BICUBIC)


def _paste_tile(
    session: ort.InferenceSession,
    image: Image.Image,
    mask: Image.Image,
    corner: tuple[int, int],
    side: int,
) -> None:
    left, top = corner
    before = [MARGIN_PX if start >= MARGIN_PX else 0 for start in corner]
    after = [
        MARGIN_PX if start + side + MARGIN_PX <= extent else 0
        for start, extent in zip(corner, image.size, strict=True)
    ]
    box = (left - before[0], top - before[1], left + side + after[0], top + side + after[1])
    found = _predict(session, image.crop(box), side)  # Pillow puts black outside
    kept = found.crop((before[0], before[1], before[0] + side, before[1] + side))
    mask.paste(kept, corner)


if __name__ == "__main__":
    serve(run)
