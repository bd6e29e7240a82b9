"""The bars: what each subject set out to reach, and where its number stands."""

from __future__ import annotations

import statistics
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bar import ROOT, Bar, either, off_one, ratio, record, value

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = "bench/peers.py made8k.tif --envs runs/peers/env --page"
FLOOR = "bench/scaling.py floor made-16k=made16k.tif@5 made-32k=made32k.tif@3 --page"
TISSUE = "bench/scaling.py tissue full=made16k.tif@5 sparse=sparse16k.tif@5 --page"
SIZE = (
    "bench/scaling.py size made-8k=made8k.tif@5 made-16k=made16k.tif@5 made-32k=made32k.tif@3 "
    "--page"
)
TILES = "bench/scaling.py tiles made-4k=made4k.tif@1 --precision fp32 --page"
MEMORY = "bench/memory.py --images DATA/dsb2018_nuclei/train"
EXPORT = "cellseg-cli export, stated in the bundle"
COUNTING = "bench/counting.py --data DATA"
TIMES, PERCENT = "{:.2f}x", "{:.1%}"


# --- peers ---------------------------------------------------------------------------------------


def peer(name: str) -> dict[str, Any]:
    """Return a contestant's row of bench/results/peers.json."""
    rows: dict[str, dict[str, Any]] = {r["contestant"]["name"]: r for r in record("peers")["rows"]}
    return rows[name]


def seconds(*names: str) -> Callable[[], float]:
    """Return the median time of a contestant; of several, that of the quickest."""
    return lambda: min(statistics.median(peer(name)["tally"]["seconds"]) for name in names)


def memory(name: str) -> Callable[[], float]:
    """Return the most that a contestant had in memory, MB."""
    return lambda: float(max(peer(name)["tally"]["peak_rss_mb"]))


def engine(name: str, precision: str) -> Callable[[], float]:
    """Return megapixels a second of our adapter, tiles in memory."""

    def read() -> float:
        rows = record("peers")["engines"]["rows"]
        speeds = {(r["engine"], r["precision"], r["program"]): r["mpx_s"] for r in rows}
        return statistics.median(speeds[name, precision, "cellseg"])

    return read


FP32, INT8 = seconds("cellseg fp32"), seconds("cellseg int8")
AS_RUN = seconds("FAST, no overlap")
SEAMLESS = seconds("FAST, overlap to the halo", "FAST, 1024, to the halo")


def faster(who: str, theirs: Callable[[], float], fp32: float, int8: float) -> list[Bar]:
    """Return the two bars against a peer: our fp32 and our int8."""
    bars = [("fp32", FP32, fp32), ("our int8", INT8, int8)]
    return [
        Bar("gigapixel", f"against {who}, {name}", ratio(theirs, ours), PEERS, least=least,
            form=TIMES)
        for name, ours, least in bars
    ]  # fmt: skip


# --- other readings ------------------------------------------------------------------------------


def time_by_work(name: str, first: str, second: str) -> Callable[[], float]:
    """Return time over work of the second slide, both relative to the first."""
    parts = [value(name, "slides", slide, key) for key in ("seconds", "amount")
             for slide in (second, first)]  # fmt: skip
    return ratio(ratio(parts[0], parts[1]), ratio(parts[2], parts[3]))


def distinct_hashes() -> float:
    """Count the results that differ over settings and kills."""
    return len({run["sha256"] for run in record("invariance")["runs"]})


def flipped_of_tiles() -> float:
    """Return the largest share of pixels that another tile size changes."""
    slides = record("scaling-tiles")["slides"].values()
    return max(max(slide["flipped"]) / slide["pixels"][0] for slide in slides)


def dice_lost_by_tiles() -> float:
    """Return the largest difference of Dice between tile sizes."""
    return max(1 - min(slide["dice"]) for slide in record("scaling-tiles")["slides"].values())


def peak_of_all_sizes() -> float:
    """Return the largest peak of the sizes, in 1e6 bytes."""
    return max(run["peak_mib"] for run in record("memory")["runs"]) * 2**20 / 1e6


@lru_cache
def card(path: str) -> dict[str, Any]:
    """Return a bundle's manifest."""
    from cellseg.runtime.bundles.bundle import Bundle

    found: dict[str, Any] = Bundle.open(ROOT / path).manifest.model_dump(mode="json")
    return found


NUCLEI, BLOOD = "cellseg/models/nuclei.cellseg", "examples/models/blood.cellseg"


def parity(path: str) -> Callable[[], float]:
    """Return the largest difference of an fp32 variant from Keras."""

    def read() -> float:
        found = card(path)["provenance"]["export"]["parity"]
        return max(float(off) for file, off in found.items() if ".fp32." in file)

    return read


def worst_int8(path: str, key: str) -> Callable[[], float]:
    """Return the worst of the int8 variants; for drifts the largest."""

    def read() -> float:
        int8 = [v for v in card(path)["variants"] if v["precision"] == "int8"]
        found = [float(v["vs_fp32"][key]) for v in int8]
        return max(abs(each) for each in found) if "drift" in key else min(found)

    return read


def size_of_int8() -> float:
    """Return the bytes of the largest int8 file by those of its fp32 file."""
    size = {v["file"]: v["bytes"] for v in card(NUCLEI)["variants"]}
    pairs = [
        ("model.int8.u8s8.onnx", "model.fp32.onnx"),
        ("model.int8.s8s8.onnx", "model.fp32.onnx"),
        ("model.int8.tflite", "model.fp32.tflite"),
    ]
    return max(size[small] / size[large] for small, large in pairs)


def lost_by_tensorrt() -> float:
    """Count convolutions that were meant to be int8 and are not, over all engines."""
    return sum(len(engine["int8_lost"]) for engine in record("tensorrt-layers")["engines"])


def stated(path: str, dataset: str) -> dict[str, Any]:
    """Return what a bundle states of its fp32 file on a set of test images."""
    variants = {v["file"]: v for v in card(path)["variants"]}
    found = {q["dataset"]: q for q in variants["model.fp32.onnx"]["quality"]}
    return dict(found[dataset])


def dice_of(path: str, dataset: str, name: str) -> Callable[[], float]:
    """Return the Dice of a class on the test images, fp32."""
    return lambda: float(stated(path, dataset)["dice"][name])


def minutes_of_smears() -> float:
    """Return the minutes for as many smears as the seed made."""
    return value("synthesize", "seed_images_s")() / 60


def installed(machine: str) -> Callable[[], float]:
    """Return the larger size of an install, MB, over Python's versions."""

    def read() -> float:
        found = record("install-size").items()
        return max(float(sizes["all"]) for name, sizes in found if name.startswith(machine))

    return read


def all_true(*names: str) -> Callable[[], float]:
    """Return 1 if each part of bench/cells.py came out as it should."""
    return lambda: float(all(record("cells")[name]["ok"] for name in names))


def side_of_known() -> str:
    """Say how large the slide of known cells was."""
    return f"side {record('cells')['truth']['side_px']} px"


def wrong_cells() -> float:
    """Count cells that were lost, doubled or cut on the known slide."""
    found = record("cells")["truth"]
    return float(found["lost"] + found["doubled_or_cut"])


def counted(source: str, f1: float, error: float) -> list[Bar]:
    """Return the bars of one source of test images."""
    at = ("counting", "sources", source)
    return [
        Bar("cells", f"nuclei: object F1, {source}", value(*at, "rq", "value"), COUNTING,
            least=f1, form="{:.3f}"),
        Bar("cells", f"nuclei: count error, {source}", value(*at, "count_error", "value"), COUNTING,
            most=error, form=PERCENT),
    ]  # fmt: skip


def recognized(source: str, dice: float, f1: float) -> list[Bar]:
    """Return the bars of the first model on one source of test images."""
    return [
        Bar("nuclei", f"Dice, {source}", dice_of(NUCLEI, source, "nucleus"), EXPORT,
            least=dice, form="{:.3f}"),
        Bar("nuclei", f"object F1, mean of images, {source}", lambda: float(stated(NUCLEI,
            source)["object_f1"]), EXPORT, least=f1, form="{:.3f}"),
    ]  # fmt: skip


# --- the bars ------------------------------------------------------------------------------------

MODEL = [
    *recognized("dsb-fluorescence", 0.92, 0.85),
    *recognized("kromp", 0.88, 0.72),
    *recognized("dsb-he", 0.88, 0.68),
    Bar("nuclei", "parameters", lambda: card(NUCLEI)["provenance"]["parameters"] / 1e6, EXPORT,
        most=2.5, form="{:.2f} M"),
    Bar("nuclei", "sees past a tile's edge", lambda: float(card(NUCLEI)["receptive_field_px"]),
        EXPORT, most=100, form="{:.0f} px",
        note=lambda: "104 px from pixel to pixel, docs/models/nuclei.md"),
]  # fmt: skip

GIGAPIXEL = [
    Bar("gigapixel", "of the floor's speed, 16k", value("scaling-floor", "slides", "made-16k",
        "of_floor"), FLOOR, least=0.90, form="{:.3f}"),
    Bar("gigapixel", "of the floor's speed, 32k", value("scaling-floor", "slides", "made-32k",
        "of_floor"), FLOOR, least=0.90, form="{:.3f}"),
    *faster("FAST without seams", SEAMLESS, 1.5, 3.0),
    Bar("gigapixel", "against FAST as it is run, our int8", ratio(AS_RUN, INT8), PEERS,
        least=2.0, form=TIMES),
    *faster("MONAI", seconds("MONAI sliding window"), 3.0, 10.0),
    *faster("TIAToolbox", seconds("TIAToolbox"), 3.0, 10.0),
    *faster("dask", seconds("dask map_overlap"), 1.3, 3.0),
    Bar("gigapixel", "memory, of dask's", ratio(memory("cellseg fp32"), memory("dask map_overlap")),
        PEERS, most=0.5),
    Bar("gigapixel", "peak RSS, 1, 4 and 16 gigapixel", peak_of_all_sizes, MEMORY, most=1500,
        form="{:.0f} MB"),
    Bar("gigapixel", "the three peaks apart by", value("memory", "apart"), MEMORY, most=0.10,
        form=PERCENT),
    Bar("gigapixel", "time by tissue, off proportion", off_one(time_by_work("scaling-tissue",
        "full", "sparse")), TISSUE, most=0.10, form=PERCENT),
    Bar("gigapixel", "distinct results of 18 settings and 10 kills", distinct_hashes,
        "bench/invariance.py made4k.tif --page", most=1, form="{:.0f}"),
    Bar("gigapixel", "pixels that the tile size changes", flipped_of_tiles, TILES, most=1e-7,
        form="{:.1e}"),
    Bar("gigapixel", "Dice that the tile size changes", dice_lost_by_tiles, TILES, most=0.0,
        form="{:.4f}"),
    Bar("gigapixel", "8k to 16k: 4 times the pixels, time off proportion", off_one(time_by_work(
        "scaling-size", "made-8k", "made-16k")), SIZE, most=0.05, form=PERCENT),
    Bar("gigapixel", "16k to 32k: the same", off_one(time_by_work(
        "scaling-size", "made-16k", "made-32k")), SIZE, most=0.05, form=PERCENT),
]  # fmt: skip

EXPORTED = [
    Bar("export", f"{name}: fp32 variants against Keras", parity(path), EXPORT, most=1e-4,
        form="{:.1e}")
    for name, path in (("nuclei", NUCLEI), ("blood", BLOOD))
] + [
    Bar("export", "nuclei: int8 Dice, of fp32", worst_int8(NUCLEI, "dice_ratio"), EXPORT,
        least=0.995, form="{:.2%}"),
    Bar("export", "nuclei: int8 object F1, of fp32", worst_int8(NUCLEI, "object_f1_ratio"), EXPORT,
        least=0.995, form="{:.2%}"),
    Bar("export", "nuclei: int8 count drift", worst_int8(NUCLEI, "count_drift"), EXPORT,
        most=0.01, form="{:.2%}"),
    Bar("export", "blood: int8 Dice, of fp32", worst_int8(BLOOD, "dice_ratio"), EXPORT,
        least=0.995, form="{:.2%}"),
    Bar("export", "OpenVINO int8 against ONNX Runtime fp32, 1024", ratio(engine("openvino", "int8"),
        engine("onnxruntime", "fp32")), PEERS, least=3.0, form=TIMES),
    Bar("export", "LiteRT int8 against LiteRT fp32", ratio(engine("litert", "int8"),
        engine("litert", "fp32")), PEERS, least=2.5, form=TIMES),
    Bar("export", "int8 file, of fp32", size_of_int8, EXPORT, most=0.30, form=PERCENT),
    Bar("export", "TensorRT int8 engines: convolutions not in int8", lost_by_tensorrt,
        "bench/tensorrt_layers.py", most=0, form="{:.0f}"),
    Bar("export", "install, aarch64", installed("aarch64"), "bench/install_size.py", most=620,
        form="{:.0f} MB"),
    Bar("export", "install, x86-64, Python 3.12", installed("x86_64, Python 3.12"),
        "bench/install_size.py", most=800, form="{:.0f} MB"),
    Bar("export", "install, x86-64, Python 3.10", installed("x86_64, Python 3.10"),
        "bench/install_size.py", most=800, form="{:.0f} MB"),
]  # fmt: skip

CELLS = [
    Bar("cells", "known cells lost, doubled or cut", wrong_cells,
        "bench/cells.py truth --side 32768", most=0, form="{:.0f}", note=side_of_known),
    Bar("cells", "one result over regions and tiles", all_true("same"), "bench/cells.py same",
        yes=True),
    Bar("cells", "one to one with scikit-image on 8k", all_true("whole"),
        "bench/cells.py whole --side 8192", yes=True),
    Bar("cells", "end to end with all of cells, of without", value("cells-cost", "times", "all"),
        "bench/cells_cost.py made8k.tif", most=1.15, form=TIMES),
    Bar("cells", "against dask-image, 16k", value("cells", "dask", "times_faster"),
        "bench/cells.py dask --side 16384", least=10.0, form=TIMES),
    Bar("cells", "memory, of dask-image's", value("cells", "dask", "part_of_memory"),
        "bench/cells.py dask --side 16384", most=0.25),
    Bar("cells", "GeoJSON and Parquet of a million", value("cells", "write", "seconds_both"),
        "bench/cells.py write", most=60, form="{:.1f} s"),
    Bar("cells", "memory of that", value("cells", "write", "cells.parquet", "extra_mb"),
        "bench/cells.py write", most=500, form="{:.0f} MB"),
    *counted("dsb-fluorescence", 0.90, 0.05),
    *counted("kromp", 0.78, 0.10),
    *counted("dsb-he", 0.74, 0.10),
    Bar("cells", "polygon to raster and back, median IoU", value("cells", "polygons", "median_iou"),
        "bench/cells.py polygons", least=0.99),
]  # fmt: skip

STREAM = "bench/stream.py"
LIVE = [
    Bar("live", "p99 at half the engine's rate, to its median", value("stream", "half_rate",
        "p99_to_engine_median"), STREAM, most=1.5),
    Bar("live", "overload: longest submit", either(value("stream", "overload",
        "submit_own_p100_ms"), value("stream", "overload", "longest_submit_ms")),
        STREAM, most=1.0, form="{:.2f} ms"),
    Bar("live", "overload: memory", value("stream", "overload", "rss_growth_mb"), STREAM,
        most=20, form="{:.1f} MB"),
    Bar("live", "overload: p99 of shown frames, to the engine's median", value("stream",
        "overload", "p99_to_engine_median"), STREAM, most=2.0),
    Bar("live", "overload: drops counted exactly", value("stream", "overload",
        "is_counted_exactly"), STREAM, yes=True),
    Bar("live", "overload: how long", value("stream", "overload", "seconds"),
        "bench/stream.py --only overload --seconds 600", least=600, form="{:.0f} s"),
    Bar("live", "processor time besides the engine's", value("stream", "cost",
        "besides_to_engine"), STREAM, most=0.10, form=PERCENT),
    Bar("live", "mosaic: error of places, median", value("stream", "mosaic", "error_median_px"),
        STREAM, most=1.0, form="{:.1f} px"),
    Bar("live", "mosaic: cells, off infer's", value("stream", "mosaic", "count_difference"),
        STREAM, most=0.01, form=PERCENT),
    Bar("live", "start to first result", value("live-start", "caches_full_median_s"),
        "bench/live_start.py -o bench/results/live-start.json", most=5.0, form="{:.1f} s"),
]  # fmt: skip

TRAINING = [
    Bar("training", "barrel distortion, against the seeds' loop", value("augment", "lens", "ratio"),
        "bench/augment.py", least=30, form="{:.0f}x"),
    Bar("training", "crops augmented in a training step", value("augment", "step_per_crop"),
        "bench/augment.py", least=1, form="{:.0f}"),
    Bar("data", "65,350 smears on two cores", minutes_of_smears,
        "bench/synthesize.py --data DATA", most=30, form="{:.1f} min"),
    Bar("data", "blood: Dice of the nucleus", dice_of(BLOOD, "wbc-tecom", "nucleus"), EXPORT,
        least=0.95, form="{:.3f}"),
    Bar("data", "blood: Dice of the cytoplasm", dice_of(BLOOD, "wbc-tecom", "cytoplasm"), EXPORT,
        least=0.88, form="{:.3f}"),
    Bar("data", "ten-class smears: Dice over all pixels", value("smear-test", "plain",
        "mean_dice_pooled"), "cellseg-cli evaluate smear-cells --data DATA --model runs/smear",
        least=0.90, form="{:.3f}"),
    Bar("data", "glomeruli: Dice, mean of images", value("glomeruli-test", "plain", "classes",
        "glomerulus", "dice"), "cellseg-cli evaluate glomeruli --data DATA --model runs/glomeruli",
        least=0.85, form="{:.3f}"),
]  # fmt: skip

BENCHMARKS = [
    Bar("benchmarks", "three runs: pairs of intervals that do not overlap", ratio(
        value("agreement", "apart"), value("agreement", "pairs")), "bench/agreement.py --page",
        most=0.05, form=PERCENT),
]  # fmt: skip

BARS = (*MODEL, *GIGAPIXEL, *EXPORTED, *CELLS, *LIVE, *TRAINING, *BENCHMARKS)
