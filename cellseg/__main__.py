"""``python -m cellseg`` is ``cellseg-cli``."""

from __future__ import annotations

from cellseg.cli import main

if __name__ == "__main__":
    main()
