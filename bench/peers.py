"""Run the same network over the same slide by ourselves and by others, in turns.

    bench/peers/make_env.sh all     # a virtual environment each, in runs/peers/env
    python bench/peers.py made-4k.tif --python fast=ENV/bin/python --python monai=ENV/bin/python \
        --python tiatoolbox=ENV/bin/python --python dask=ENV/bin/python --rounds 5 --page
    python bench/peers.py made-4k.tif --envs runs/peers/env   # all that are there


Each contestant is a file in bench/peers/, run by the Python of its own environment as a process of
its own. "Seconds" are from the slide's path to the finished class map, the network's opening
included, imports not; the process's whole wall time is in the JSON. Before the rounds each runs
once unmeasured, so that compiled kernels and remembered choices are there for all; those class maps
are held against the image run whole in one call (or, past ``--whole-px``, against ours at fp32).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from contest import Tally, machine_words, save_record, spread
from pages import write_section

from cellseg.bench.cell_counts import count_cells
from cellseg.bench.process import ProcessFailed, run_process
from cellseg.runtime.metrics import dice

if TYPE_CHECKING:
    from numpy.typing import NDArray

HERE = Path(__file__).parent
DRIVERS = HERE / "peers"
FRAME_PX = 128


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


OURS_FP32 = Contestant("cellseg fp32", "ours", "ours.py", "bundle")
OURS_INT8 = Contestant("cellseg int8", "ours", "ours.py", "bundle", precision="int8")
WHOLE = Contestant("whole image", "ours", "untiled.py", "planar")


def contestants(halo_px: int) -> tuple[Contestant, ...]:
    """List the rows; an overlap to the halo is what leaves no seam."""
    to_halo = {side: 2 * halo_px / side for side in (512, 1024)}
    patches = partial(Contestant, environment="fast", driver="fast_patches.py")
    seeds = partial(
        Contestant,
        environment="seeds",
        driver="seeds_tiled.py",
        model="planar_fixed",
        patch_px=512,
        overlap=0.25,
    )
    fixed, quantized = "planar_fixed", "planar_fixed_int8"
    return (
        OURS_FP32,
        OURS_INT8,
        patches("FAST, no overlap", model=fixed, patch_px=512),
        patches("FAST, overlap to the halo", model=fixed, patch_px=512, overlap=to_halo[512]),
        patches("FAST, 1024, to the halo", model=fixed, patch_px=1024, overlap=to_halo[1024]),
        patches("FAST int8, no overlap", model=quantized, patch_px=512, precision="int8"),
        Contestant("MONAI sliding window", "monai", "monai_window.py", "planar", 512, 0.25),
        Contestant("TIAToolbox", "tiatoolbox", "tiatoolbox_segmentor.py", "planar", 512),
        Contestant("dask map_overlap", "dask", "dask_overlap.py", "planar", 1024),
        Contestant("LazySlide", "lazyslide", "lazyslide_semantic.py", "planar", 512),
        seeds("seeds tiling, one thread", threads=1),
        seeds("seeds tiling, all threads"),
    )


@dataclass
class Row:
    """A contestant with what was measured."""

    contestant: Contestant
    tally: Tally = field(default_factory=Tally)
    flipped_per_million: float | None = None
    flipped_inside_per_million: float | None = None
    dice: float | None = None
    """Against the image run whole."""
    truth_dice: float | None = None
    """Against the slide's own truth, where it lies beside it."""
    cells: int | None = None
    lost: int | None = None
    doubled: int | None = None
    failure: str | None = None


class Field:
    """The slide, the networks' files and the environments."""

    def __init__(self, options: argparse.Namespace) -> None:
        from cellseg.runtime.bundle import Bundle

        self.options = options
        self.halo_px = Bundle.open(options.model).manifest.halo_px
        self.pythons = {"ours": sys.executable}
        if options.envs is not None:
            found = options.envs.glob("*/bin/python")
            self.pythons.update((path.parents[1].name, str(path.absolute())) for path in found)
        self.pythons.update(text.split("=", 1) for text in options.python)
        self._networks: dict[tuple[str, int], Path] = {}

    def run(self, contestant: Contestant) -> tuple[Any, Path]:
        """Run a contestant once; return how it went and where its class map is."""
        out = self.options.work / f"out-{contestant.name.replace(' ', '-').replace(',', '')}"
        request = {
            "slide": str(self.options.slide),
            "model": str(self._network(contestant)),
            "out": str(out),
            "threads": contestant.threads or self.options.threads,
            "patch_px": contestant.patch_px,
            "overlap": contestant.overlap,
            "precision": contestant.precision,
            "halo_px": self.halo_px,
        }
        command = [self.pythons[contestant.environment], str(DRIVERS / contestant.driver)]
        finish = run_process([*command, json.dumps(request)], self.options.timeout)
        return finish, Path(finish.said["result"])

    def _network(self, contestant: Contestant) -> Path:
        sys.path.insert(0, str(DRIVERS))
        from network_files import write_network_files

        side = contestant.patch_px or 512
        key = (contestant.model, side)
        if key not in self._networks:
            files = write_network_files(self.options.model, self.options.work / "networks", side)
            self._networks[key] = getattr(files, contestant.model)
        return self._networks[key]


def read_classes(path: Path) -> NDArray[np.uint8]:
    """Read a class map in whatever form a contestant writes it; uint8 (H, W)."""
    import tifffile

    if path.suffix == ".npy":
        found = np.load(path)
    elif ".zarr" in (path.suffix, path.parent.suffix):
        import zarr

        found = zarr.open(path, mode="r")[...]
    else:
        found = tifffile.imread(path, key=0)
    return np.asarray(np.squeeze(found) > 0, np.uint8)


def compare(row: Row, found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
    """Hold a class map against the truth, with and without the slide's own frame.

    Others pad outside the slide with white or repeated pixels, where the network pads with zeros;
    that is no seam, so the share inside the frame tells about the tiling alone.
    """
    height, width = truth.shape
    found = found[:height, :width]
    different = found != truth
    inside = different[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX]
    row.flipped_per_million = float(different.mean() * 1e6)
    row.flipped_inside_per_million = float(inside.mean() * 1e6)
    both = int(np.count_nonzero(found & truth))
    row.dice = 2 * both / max(1, int(found.sum(dtype=np.int64) + truth.sum(dtype=np.int64)))
    counts = count_cells(found, truth)
    row.cells, row.lost, row.doubled = counts.cells, counts.lost, counts.doubled


def rounds(contest: Field, rows: list[Row]) -> None:
    """Warm each up and judge its class map, then let them take turns."""
    truth, beside = None, contest.options.slide.with_suffix(".classes.tif")
    annotated = read_classes(beside) if beside.exists() else None
    if slide_pixels(contest.options.slide) <= contest.options.whole_px:
        truth = read_classes(contest.run(WHOLE)[1])
    for row in rows:
        try:
            _, path = contest.run(row.contestant)
        except ProcessFailed as error:
            row.failure = str(error)
            print(f"{row.contestant.name}: {error}", file=sys.stderr, flush=True)
            continue
        found = read_classes(path)
        truth = found if truth is None else truth
        compare(row, found, truth)
        if annotated is not None:
            row.truth_dice = dice(found[: annotated.shape[0], : annotated.shape[1]], annotated)
        print(f"{row.contestant.name}: {row.flipped_per_million:.1f} ppm", flush=True)
    for _ in range(contest.options.rounds):
        for row in rows:
            if row.failure is None:
                row.tally.add(contest.run(row.contestant)[0])
                print(row.contestant.name, row.tally.seconds[-1], flush=True)


def slide_pixels(path: Path) -> int:
    """Pixels of level 0."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        return int(file.pages[0].imagelength * file.pages[0].imagewidth)


def format_table(rows: list[Row], pixels: int, head: str) -> str:
    """Format one row a contestant; ratios are of medians of the same run."""
    done = {row.contestant: row for row in rows if row.tally.seconds}
    ours = [statistics.median(done[c].tally.seconds) for c in (OURS_FP32, OURS_INT8) if c in done]
    lines = [
        head,
        "",
        "| contestant | precision | patch, overlap | seconds | MP/s | cellseg fp32 is faster by "
        "| cellseg int8 is faster by | peak RSS | flipped px per million (inside) | Dice "
        "| Dice against truth | cells lost, doubled |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in done.values():
        who, took = row.contestant, statistics.median(row.tally.seconds)
        ratios = [f"{took / mine:.2f}x" for mine in ours]
        patch = f"{who.patch_px}, {100 * who.overlap:.1f} %" if who.patch_px else "own choice"
        lines.append(
            f"| {who.name} | {who.precision} | {patch} | {spread(row.tally.seconds, 1)} "
            f"| {pixels / 1e6 / took:.2f} | {' | '.join((*ratios, '-', '-')[:2])} "
            f"| {max(row.tally.peak_rss_mb):.0f} MB "
            f"| {row.flipped_per_million:.1f} ({row.flipped_inside_per_million:.1f}) "
            f"| {row.dice:.5f} | {'-' if row.truth_dice is None else f'{row.truth_dice:.4f}'} "
            f"| {row.lost}, {row.doubled} of {row.cells} |"
        )
    lines += [
        f"\n{row.contestant.name} did not finish: {row.failure.strip().splitlines()[-1]}"
        for row in rows
        if row.failure
    ]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path, help="made by cellseg-cli data make-slide")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--envs", type=Path, help="folder of environments: NAME/bin/python")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="parts of names, by commas")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds a run")
    parser.add_argument("--whole-px", type=int, default=4096**2)
    parser.add_argument("--work", type=Path, default=Path("runs/peers"))
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "peers.json")
    parser.add_argument("--page", action="store_true", help="fill docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    """Measure, write JSON, update the page."""
    options = parse()
    options.work.mkdir(parents=True, exist_ok=True)
    contest = Field(options)
    wanted = [part for part in options.only.split(",") if part]
    rows = [
        Row(c)
        for c in contestants(contest.halo_px)
        if c.environment in contest.pythons
        and (not wanted or any(part in c.name for part in wanted))
    ]
    rounds(contest, rows)
    pixels = slide_pixels(options.slide)
    save_record(options.out, {"slide": options.slide.name, "rows": [asdict(row) for row in rows]})
    head = (
        f"{machine_words()}. {options.slide.name}, {pixels / 1e6:.0f} MP; {options.rounds} rounds, "
        "medians (smallest to largest), contestants taking turns."
    )
    table = format_table(rows, pixels, head)
    print(table)
    if options.page:
        write_section("benchmarks.md", "peers", table)


if __name__ == "__main__":
    main()
