"""Print where the C header is: ``gcc -I $(python -m cellseg.live.ring) camera.c``."""

from __future__ import annotations

import sys

from cellseg.live.ring import include_dir

sys.stdout.write(f"{include_dir()}\n")
