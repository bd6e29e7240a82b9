"""Who takes part in `bench/peers.py`: the rows of its table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial


@dataclass(frozen=True)
class Contestant:
    """One row of the table."""

    name: str
    """As the table has it."""

    environment: str
    """Whose Python runs it."""

    driver: str
    """File in bench/peers/."""

    model: str
    """Form of the network: a field of NetworkFiles, ``planar_fixed`` at this patch."""

    patch_px: int = 0
    """Side of what the network sees; 0: the contestant chooses."""

    overlap: float = 0.0
    """Part of a patch that its neighbour sees, too."""

    precision: str = "fp32"
    """Of the network file."""

    threads: int | None = None
    """Where a contestant sets them itself; None: those of the contest."""

    to_halo: bool = False
    """The overlap is what leaves no seam."""


OURS_FP32 = Contestant("cellseg fp32", "ours", "ours.py", "bundle")
OURS_INT8 = Contestant("cellseg int8", "ours", "ours.py", "bundle", precision="int8")
WHOLE = Contestant("whole image", "ours", "untiled.py", "planar")


def contestants(halo_px: int) -> tuple[Contestant, ...]:
    """List the rows; an overlap to the halo is what leaves no seam."""
    fast = partial(Contestant, environment="fast", driver="fast_patches.py", model="planar_fixed")
    seeds = partial(
        Contestant,
        environment="seeds",
        driver="seeds_tiled.py",
        model="planar_fixed",
        patch_px=512,
        overlap=0.25,
    )
    int8 = {"model": "planar_fixed_int8", "precision": "int8"}
    return (
        OURS_FP32,
        OURS_INT8,
        fast("FAST, no overlap", patch_px=512),
        _seamless(fast("FAST, overlap to the halo"), 512, halo_px),
        _seamless(fast("FAST, 1024, to the halo"), 1024, halo_px),
        fast("FAST int8, no overlap", patch_px=512, **int8),
        Contestant("MONAI sliding window", "monai", "monai_window.py", "planar", 512, 0.25),
        Contestant("TIAToolbox", "tiatoolbox", "tiatoolbox_segmentor.py", "planar", 512),
        Contestant("dask map_overlap", "dask", "dask_overlap.py", "planar", 1024),
        Contestant("LazySlide", "lazyslide", "lazyslide_semantic.py", "planar", 512),
        seeds("seeds tiling, one thread", threads=1),
        seeds("seeds tiling, all threads"),
    )


def at_patches(
    found: tuple[Contestant, ...], sides: tuple[int, ...], halo_px: int
) -> tuple[Contestant, ...]:
    """Repeat those that see 512 px at a time with other sides; without sides, return all as is."""
    rows = list(found)
    for who in found if sides else ():
        if who.patch_px != 512:
            continue
        rows.remove(who)
        for side in sides:
            other = replace(who, name=f"{who.name}, patch {side}", patch_px=side)
            rows.append(_seamless(other, side, halo_px) if who.to_halo else other)
    return tuple(rows)


def _seamless(who: Contestant, side: int, halo_px: int) -> Contestant:
    return replace(who, patch_px=side, overlap=2 * halo_px / side, to_halo=True)
