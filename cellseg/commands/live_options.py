"""Options of ``cellseg-cli live`` that no other command has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

_SLIDE, _STREAM = "A slide played as a camera", "The stream"


def parse_frame_size(text: str) -> tuple[int, int]:
    """Return height and width of ``SIDE`` or ``WIDTHxHEIGHT``.

    Examples
    --------
    >>> parse_frame_size("640x480"), parse_frame_size("512")
    ((480, 640), (512, 512))
    """
    found = re.fullmatch(r"([1-9][0-9]*)(?:x([1-9][0-9]*))?", text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"a frame size looks like 1024 or 640x480. Received: {text!r}.")
    return int(found[2] or found[1]), int(found[1])


SourceName = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="opencv:0, opencv:rtsp://…, video:FILE, mm:FILE.cfg, folder:DIR, slide:FILE, "
        "recording:DIR or ring:NAME.",
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        metavar="FPS",
        min=0.001,
        help="Frames a second; by default the source's own, and a slide as fast as it goes.",
        rich_help_panel=_STREAM,
    ),
]
Frames = Annotated[
    int | None,
    typer.Option(
        "--frames",
        metavar="N",
        min=1,
        help="End after N frames; a slide's path is repeated for more than it has.",
        rich_help_panel=_STREAM,
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="drop-oldest|drop-newest|block",
        help="What becomes of frames that come too fast. By default cameras, videos and "
        "anything with --rate drop the oldest; folders, slides and recordings wait.",
        rich_help_panel=_STREAM,
    ),
]
Queue = Annotated[
    int,
    typer.Option(
        "--queue", metavar="N", min=1, help="Frames that may wait.", rich_help_panel=_STREAM
    ),
]
LiveOut = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="Results go to FOLDER/<name of source>/."),
]
Record = Annotated[
    bool,
    typer.Option("--record", help="Keep frames, masks and events; in cellseg-out without -o."),
]
Rules = Annotated[
    Path | None,
    typer.Option("--rules", metavar="FILE.toml", help="Events to watch for; see docs/live.md."),
]
FrameSize = Annotated[
    str,
    typer.Option(
        "--frame-size",
        metavar="PX|WxH",
        help="Size of a frame in full-resolution pixels.",
        rich_help_panel=_SLIDE,
    ),
]
Overlap = Annotated[
    float,
    typer.Option(
        "--overlap",
        metavar="0..0.9",
        help="Part of a frame that its neighbour shows too.",
        rich_help_panel=_SLIDE,
    ),
]
Jitter = Annotated[
    float,
    typer.Option(
        "--jitter",
        metavar="PX",
        help="How far the stage misses, at most.",
        rich_help_panel=_SLIDE,
    ),
]
Defocus = Annotated[
    float,
    typer.Option(
        "--defocus",
        metavar="PX",
        help="Largest blur of a frame, sigma.",
        rich_help_panel=_SLIDE,
    ),
]
Lost = Annotated[
    float,
    typer.Option(
        "--lost",
        metavar="0..1",
        help="Part of the frames that never arrive.",
        rich_help_panel=_SLIDE,
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", help="Of all that is random.", rich_help_panel=_SLIDE),
]
Mosaic = Annotated[
    bool,
    typer.Option(
        "--mosaic/--no-mosaic",
        help="With -o, put frames with stage positions together and segment the whole.",
    ),
]
Headless = Annotated[
    bool, typer.Option("--headless", help="No dashboard, and no local page without --page.")
]
