"""How a run compares with its floor, and how its time and its result move with the slide and tile.

    python bench/scaling.py floor made-16k=made16k.tif@5 made-32k=made32k.tif@3 --page
    python bench/scaling.py tissue full=made16k.tif@5 sparse=sparse16k.tif@5 --page
    python bench/scaling.py size made-8k=made8k.tif@5 made-16k=made16k.tif@5 --page
    python bench/scaling.py tiles made-4k=made4k.tif@1 --precision fp32 --page

``@N`` is the number of rounds for that slide; slides take turns. The floor is the slower of the
engine alone (same tiles, in memory) and decoding alone (same pixels). ``tissue`` uses the tissue
mask and holds time against the share of the tiles that are run; ``size`` and ``floor`` run all.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from contest import machine_words, save_record, spread
from measure import Who, decode_alone, engine_alone, whole_run
from pages import write_section
from throughput import parse_slide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
TILE_SIDES = (512, 1024, 2048)
Record = dict[str, dict[str, list[float]]]


def turns(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Yield slides in turns, each as often as it has rounds."""
    slides = {
        name: parse_slide(text) for name, _, text in (s.partition("=") for s in options.slides)
    }
    for turn in range(max(rounds for _, rounds in slides.values())):
        for name, (path, rounds) in slides.items():
            if turn < rounds:
                yield name, path


def run_once(
    path: Path,
    options: argparse.Namespace,
    tile_px: int,
    *,
    mask: bool = False,
    look: Callable[[Path], Any] | None = None,
) -> tuple[dict[str, Any], Any]:
    """Run one slide as the options say."""
    from cellseg.runtime.jobs.options import InferOptions

    chosen = InferOptions(
        model=options.model,
        engine=options.engine,
        precision=options.precision,
        tile_px=tile_px,
        tissue_mask=mask,
        write=tuple(options.write.split(",")),
    )
    return whole_run(path, chosen, look)


def add(record: Record, name: str, **values: float) -> None:
    """Count a round."""
    for key, value in values.items():
        record.setdefault(name, {}).setdefault(key, []).append(value)
    print(name, values, flush=True)


def floor(options: argparse.Namespace) -> tuple[Record, str]:
    """Hold whole runs against the slower of engine alone and decoding alone."""
    from cellseg.runtime.machine.facts import usable_cores

    record: Record = {}
    who = Who(options.model, options.engine, options.precision, options.tile)
    for name, path in turns(options):
        engine = engine_alone(path, who, options.seconds)
        decode = decode_alone(path, options.model, usable_cores())
        run, _ = run_once(path, options, options.tile)
        whole = float(run["throughput_mpx_s"])
        share = whole / min(engine, decode)
        add(record, name, engine=engine, decode=decode, whole=whole, of_floor=share)
    lines = [
        "| slide | rounds | engine alone, MP/s | decoding alone, MP/s | end to end, MP/s "
        "| of the floor's speed |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {len(v['whole'])} | {spread(v['engine'])} | {spread(v['decode'])} "
        f"| {spread(v['whole'])} | {spread(v['of_floor'], 3)} |"
        for name, v in record.items()
    ]
    return record, "\n".join(lines)


def tissue(options: argparse.Namespace) -> tuple[Record, str]:
    """Hold the time of slides against the share of their tiles that has tissue."""
    return _against_first(options, "tiles run", mask=True)


def size(options: argparse.Namespace) -> tuple[Record, str]:
    """Hold the time of slides against their pixels."""
    return _against_first(options, "megapixels", mask=False)


def _against_first(options: argparse.Namespace, unit: str, *, mask: bool) -> tuple[Record, str]:
    """Compare time with an amount of work, both relative to the first slide's."""
    record: Record = {}
    for name, path in turns(options):
        run, _ = run_once(path, options, options.tile, mask=mask)
        plan, image = run["plan"], run["input"]
        amount = plan["tiles_total"] - plan["tiles_skipped"]
        if not mask:
            amount = image["width_px"] * image["height_px"] / 1e6
        add(record, name, amount=float(amount), seconds=float(run["wall_s"]))
    first = next(iter(record.values()))
    lines = [
        f"| slide | rounds | {unit} | seconds | {unit}, of the first | time, of the first "
        "| time / work |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, values in record.items():
        work = values["amount"][0] / first["amount"][0]
        time = statistics.median(values["seconds"]) / statistics.median(first["seconds"])
        lines.append(
            f"| {name} | {len(values['seconds'])} | {values['amount'][0]:.0f} "
            f"| {spread(values['seconds'], 1)} | {work:.3f} | {time:.3f} | {time / work:.3f} |"
        )
    return record, "\n".join(lines)


def tiles(options: argparse.Namespace) -> tuple[Record, str]:
    """Compare the class maps of tile sizes, pixel by pixel."""
    record: Record = {}
    rows = []
    for name, path in turns(options):
        maps = {s: run_once(path, options, s, look=read_classes)[1] for s in options.sides}
        first = maps[options.sides[0]]
        for side in options.sides[1:]:
            flipped = int(np.count_nonzero(maps[side] != first))
            overlap = dice(maps[side] > 0, first > 0)
            add(record, f"{name} {side}", flipped=flipped, pixels=first.size, dice=overlap)
            rows.append(
                f"| {name} | {options.sides[0]} and {side} | {first.size / 1e6:.0f} | {flipped} "
                f"| {flipped / first.size * 1e7:.2f} | {1 - overlap:.7f} |"
            )
    lines = [
        "| slide | tiles | MP | pixels that differ | in 10^7 | Dice difference |",
        "|---|---|---|---|---|---|",
    ]
    return record, "\n".join([*lines, *rows])


def read_classes(folder: Path) -> np.ndarray:
    """Read the class map of a result folder; uint8 (H, W)."""
    import tifffile

    found = tifffile.imread(folder / "classes.ome.tif", key=0)
    return np.asarray(found, np.uint8)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Overlap of two masks, 0 to 1; two empty ones agree."""
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / total if total else 1.0


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], tuple[Record, str]]] = {
    "floor": floor,
    "tissue": tissue,
    "size": size,
    "tiles": tiles,
}


def main() -> None:
    """Measure, write JSON, update the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("slides", nargs="+", help="NAME=FILE@ROUNDS")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--sides", type=int, nargs="+", default=TILE_SIDES)
    parser.add_argument("--seconds", type=float, default=10.0, help="engine alone, a round")
    parser.add_argument("--write", default="classes,overlay", help="as of infer")
    parser.add_argument("-o", "--out", type=Path, help="bench/results/scaling-WHAT.json")
    parser.add_argument("--page", action="store_true", help="fill docs/benchmarks.md")
    options = parser.parse_args()
    record, table = MEASUREMENTS[options.what](options)
    name = f"scaling-{options.what}"
    facts = {"engine": options.engine, "precision": options.precision, "tile_px": options.tile}
    save_record(options.out or HERE / "results" / f"{name}.json", {**facts, "slides": record})
    head = f"{machine_words()}. {options.engine} {options.precision}" + (
        "." if options.what == "tiles" else f", tile {options.tile}, --write {options.write}."
    )
    table = f"{head}\n\n{table}"
    print(table)
    if options.page:
        write_section("benchmarks.md", name, table)


if __name__ == "__main__":
    main()
