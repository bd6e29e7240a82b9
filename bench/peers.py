"""Run the same network over the same slide by ourselves and by others, in turns.

    bench/peers/make_env.sh all     # a virtual environment each, in runs/peers/env
    python bench/peers.py made8k.tif --envs runs/peers/env --rounds 3 --page
    python bench/peers.py --page    # only write the pages again, from the JSON

Each contestant is a file in bench/peers/, run by the Python of its own environment as a process of
its own. "Seconds" are from the slide's path to the finished class map, the network's opening
included, imports not; the process's whole wall time is in the JSON. Before the rounds each runs
once unmeasured, so that compiled kernels and remembered choices are there for all; those class maps
are held against the image run whole in one call (or, past ``--whole-px``, against ours at fp32) and
against the truth that lies beside a made slide. Who has no environment has a row that says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from contest import Tally, save_record
from engines import measure_engines
from line_up import WHOLE, Contestant, at_patches, contestants
from pages import write_section
from peers_page import engines_markdown, peers_html, peers_markdown

from cellseg.bench.rounds.process import Finish, ProcessFailed, run_process
from cellseg.bench.slides.cell_counts import count_cells
from cellseg.runtime.evaluation.metrics import dice
from cellseg.runtime.machine.facts import usable_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

HERE = Path(__file__).parent
DRIVERS = HERE / "peers"
FRAME_PX = 128
NO_REASON = "no environment; bench/peers/make_env.sh {} makes it"


@dataclass
class Row:
    """A contestant with what was measured."""

    contestant: Contestant
    tally: Tally = field(default_factory=Tally)
    result_mb: float | None = None
    """Size of its class map on disk."""
    flipped_per_million: float | None = None
    flipped_inside_per_million: float | None = None
    dice: float | None = None
    """Against the image run whole."""
    truth_dice: float | None = None
    """Against the slide's own truth, where it lies beside it."""
    cells: int | None = None
    """Of the image run whole."""
    lost: int | None = None
    doubled: int | None = None
    failure: str | None = None


class Field:
    """The slide, the networks' files and the environments."""

    def __init__(self, options: argparse.Namespace) -> None:
        from cellseg.runtime.bundles.bundle import Bundle

        self.options = options
        self.bundle = Bundle.open(options.model)
        self.halo_px = self.bundle.manifest.halo_px
        self.pythons = {"ours": sys.executable}
        if options.envs is not None:
            found = options.envs.glob("*/bin/python")
            self.pythons.update((path.parents[1].name, str(path.absolute())) for path in found)
        self.pythons.update(text.split("=", 1) for text in options.python)
        self._networks: dict[tuple[str, int], Path] = {}

    def obstacle(self, contestant: Contestant) -> str | None:
        """Say why a contestant cannot run; None if it can."""
        name = contestant.environment
        if name in self.pythons:
            return None
        said = None if self.options.envs is None else self.options.envs / f"{name}.not-made"
        return said.read_text().strip() if said and said.exists() else NO_REASON.format(name)

    def run(self, contestant: Contestant) -> tuple[Finish, Path]:
        """Run a contestant once; return how it went and where its class map is."""
        out = self.options.work / f"out-{contestant.name.replace(' ', '-').replace(',', '')}"
        request = {
            "slide": str(self.options.slide.absolute()),
            "model": str(self._network(contestant)),
            "out": str(out),
            "threads": contestant.threads or self.options.threads,
            "patch_px": contestant.patch_px,
            "overlap": contestant.overlap,
            "precision": contestant.precision,
            "halo_px": self.halo_px,
            "stride_px": self.bundle.manifest.stride,
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


def megabytes(path: Path) -> float:
    """Return the size of a file, or of all in a folder, in 1e6 bytes."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def compare(row: Row, found: NDArray[np.uint8], untiled: NDArray[np.uint8]) -> None:
    """Hold a class map against the untiled one, with and without the slide's own frame.

    Others pad outside the slide with white or repeated pixels, where the network pads with zeros;
    that is no seam, so the share inside the frame tells about the tiling alone.
    """
    different = found != untiled
    inside = different[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX]
    row.flipped_per_million = float(different.mean() * 1e6)
    row.flipped_inside_per_million = float(inside.mean() * 1e6)
    row.dice = dice(found, untiled)
    counts = count_cells(found, untiled)
    row.cells, row.lost, row.doubled = counts.cells, counts.lost, counts.doubled


def warm_up(contest: Field, rows: list[Row]) -> str:
    """Run each once and judge its class map; return what the maps were held against."""
    beside = contest.options.slide.with_suffix(".classes.tif")
    truth = read_classes(beside) if beside.exists() else None
    height, width = slide_hw(contest.options.slide)
    untiled, against = None, "cellseg fp32"
    if height * width <= contest.options.whole_px:
        untiled, against = read_classes(contest.run(WHOLE)[1]), "the image in one call"
    for row in rows:
        row.failure = contest.obstacle(row.contestant)
        if row.failure is None:
            try:
                path = contest.run(row.contestant)[1]
            except ProcessFailed as error:
                row.failure = str(error)
        if row.failure is not None:
            print(f"{row.contestant.name}: {last_line(row.failure)}", file=sys.stderr, flush=True)
            continue
        found = read_classes(path)[:height, :width]
        untiled = found if untiled is None else untiled
        row.result_mb = megabytes(path)
        compare(row, found, untiled)
        row.truth_dice = None if truth is None else dice(found, truth)
        print(f"{row.contestant.name}: {row.flipped_per_million:.1f} ppm", flush=True)
    return against


def take_turns(contest: Field, rows: list[Row]) -> None:
    """Let those that can run take turns, the order reversed every other round."""
    able = [row for row in rows if row.failure is None]
    for turn in range(contest.options.rounds):
        for row in able if turn % 2 == 0 else reversed(able):
            try:
                row.tally.add(contest.run(row.contestant)[0])
            except ProcessFailed as error:
                row.failure = str(error)
                able = [other for other in able if other is not row]
                continue
            print(row.contestant.name, row.tally.seconds[-1], flush=True)


def last_line(text: str) -> str:
    """Return what a process said last."""
    return text.strip().splitlines()[-1]


def slide_hw(path: Path) -> tuple[int, int]:
    """Height and width of level 0."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        return int(file.pages[0].imagelength), int(file.pages[0].imagewidth)


def run_all(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the record."""
    options.work.mkdir(parents=True, exist_ok=True)
    options.work = options.work.absolute()
    contest = Field(options)
    wanted = [part for part in options.only.split(",") if part]
    rows = [
        Row(c)
        for c in at_patches(contestants(contest.halo_px), tuple(options.patch), contest.halo_px)
        if not wanted or any(part in c.name for part in wanted)
    ]
    against, engines = warm_up(contest, rows), None
    python, card = contest.pythons.get("engines"), contest.bundle.manifest
    try:
        take_turns(contest, rows)
        engines = measure_engines(python, options) if python and not wanted else None
    except KeyboardInterrupt:
        print("interrupted; rounds that are done are kept", file=sys.stderr)
    for row in rows:
        row.failure = row.failure and last_line(row.failure)
    return {
        "slide": options.slide.name,
        "slide_hw": slide_hw(options.slide),
        "model": {
            "name": card.name,
            "version": card.version,
            "sha256": contest.bundle.sha256,
        },
        "held_against": against,
        "rounds": max((len(row.tally.seconds) for row in rows), default=0),
        "threads": options.threads,
        "rows": [asdict(row) for row in rows],
        "engines": engines,
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path, nargs="?", help="made by cellseg-cli data make-slide")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--envs", type=Path, help="folder of environments: NAME/bin/python")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--only", default="", help="parts of names, by commas; no engines alone")
    parser.add_argument(
        "--patch", type=int, nargs="+", default=[], help="sides in place of 512: 256 512 1024"
    )
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds a run")
    parser.add_argument("--whole-px", type=int, default=8192**2, help="7 GB at 8192 x 8192")
    parser.add_argument("--tile", type=int, default=1024, help="engines alone: side of a tile")
    parser.add_argument("--seconds", type=float, default=5.0, help="engines alone: a round")
    parser.add_argument("--work", type=Path, default=Path("runs/peers"))
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "peers.json")
    parser.add_argument("--page", action="store_true", help="fill docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    """Measure, write JSON, update the pages."""
    options = parse()
    if options.slide is not None:
        save_record(options.out, run_all(options))
    record = json.loads(options.out.read_text(encoding="utf-8"))
    page = options.out.with_suffix(".html")
    page.write_text(peers_html(record), encoding="utf-8")
    print(f"{peers_markdown(record)}\n\n{page}")
    if options.page:
        write_section("benchmarks.md", "peers", peers_markdown(record))
        write_section("benchmarks.md", "engines", engines_markdown(record))


if __name__ == "__main__":
    main()
