"""What each operator of the LiteRT files costs, float beside int8.

    python bench/litert_operators.py [--model nuclei] [--tile 1024] [-o FILE]

LiteRT's Python package has no profiler. So each operator is cut out of the file into one of its
own, with its weights, scales and zero points, and run alone at the size it has in a tile: processor
seconds on one thread, the least of the rounds (others only add to it), the two files taking turns.
Also whether XNNPACK, which holds the fast kernels, takes the operator; what it leaves out runs on
LiteRT's own.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from contest import save_record
from flatbuffers import Builder

from cellseg import Bundle

FILES = {"fp32": "model.fp32.tflite", "int8": "model.int8.tflite"}
NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items()}


@dataclass(frozen=True)
class Cut:
    """An operator as a file of its own."""

    operator: str
    """Its kind, and for a convolution its kernel and channels."""

    place: str
    """Size of what it gives."""

    data: bytes
    shapes: tuple[tuple[int, ...], ...]
    """Of its inputs that are no constants."""


def cuts(data: bytes, tile_px: int) -> list[Cut]:
    """Cut a file up, in the order of its operators."""
    shapes = shapes_at(data, tile_px)
    model = schema.ModelT.InitFromPackedBuf(data)
    return [one(model, index, shapes) for index in range(len(model.subgraphs[0].operators))]


def shapes_at(data: bytes, tile_px: int) -> dict[int, tuple[int, ...]]:
    """Shape of every tensor for a tile."""
    interpreter = opened(data, [(1, tile_px, tile_px, 3)], with_xnnpack=False)
    return {item["index"]: tuple(item["shape"]) for item in interpreter.get_tensor_details()}


def one(model: Any, index: int, shapes: dict[int, tuple[int, ...]]) -> Cut:
    """Cut one operator out."""
    alone = copy.deepcopy(model)
    graph = alone.subgraphs[0]
    operator = graph.operators[index]
    graph.operators = [operator]
    inputs = [i for i in operator.inputs if i >= 0 and not has_data(alone, graph.tensors[i])]
    inputs = list(dict.fromkeys(inputs))
    graph.inputs, graph.outputs = inputs, list(operator.outputs)
    alone.signatureDefs, alone.metadata = [], []
    kind = NAMES[alone.operatorCodes[operator.opcodeIndex].builtinCode]
    place = "x".join(str(size) for size in shapes[operator.outputs[0]][1:])
    if kind == "CONV_2D":
        out, height, width, into = shapes[operator.inputs[1]]
        kind = f"CONV_2D {height}x{width}, {into} to {out}"
    builder = Builder(1024)
    builder.Finish(alone.Pack(builder), b"TFL3")
    return Cut(kind, place, bytes(builder.Output()), tuple(shapes[i] for i in inputs))


def has_data(model: Any, tensor: Any) -> bool:
    """Whether a tensor is a constant."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def opened(data: bytes, shapes: Any, with_xnnpack: bool = True) -> Any:
    """Open a file on one thread for inputs of these shapes, filled with noise."""
    kind = OpResolverType.AUTO if with_xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kind)
    details = interpreter.get_input_details()
    for item, shape in zip(details, shapes, strict=True):
        interpreter.resize_tensor_input(item["index"], list(shape))
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for item, shape in zip(details, shapes, strict=True):
        values = rng.integers(0, 100, shape)
        interpreter.set_tensor(item["index"], values.astype(item["dtype"]))
    return interpreter


def is_delegated(interpreter: Any) -> bool:
    """Whether XNNPACK took it."""
    return any(item["op_name"] == "DELEGATE" for item in interpreter._get_ops_details())


def measure(data: dict[str, bytes], tile_px: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Time every operator of every file; the files take turns."""
    pieces = {name: cuts(file, tile_px) for name, file in data.items()}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    longest = max(len(found) for found in pieces.values())
    for index in range(longest):
        for name, found in pieces.items():
            if index < len(found):
                rows[name].append(timed(found[index], rounds))
    return dict(rows)


def timed(cut: Cut, rounds: int) -> dict[str, Any]:
    """Time one operator."""
    interpreter = opened(cut.data, cut.shapes)
    least = min(seconds(interpreter) for _ in range(rounds + 1))
    return {
        "operator": cut.operator,
        "gives": cut.place,
        "ms": round(1e3 * least, 2),
        "xnnpack": is_delegated(interpreter),
    }


def seconds(interpreter: Any) -> float:
    """Processor seconds of one run."""
    started_s = time.process_time()
    interpreter.invoke()
    return time.process_time() - started_s


def whole(data: dict[str, bytes], tile_px: int, rounds: int) -> dict[str, float]:
    """Processor milliseconds of a tile; the files take turns."""
    ready = {name: opened(file, [(1, tile_px, tile_px, 3)]) for name, file in data.items()}
    took: dict[str, list[float]] = {name: [] for name in data}
    for _ in range(rounds + 1):
        for name, interpreter in ready.items():
            took[name].append(seconds(interpreter))
    return {name: round(1e3 * min(values), 1) for name, values in took.items()}


def by_kind(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Sum milliseconds by operator and kernel."""
    sums: dict[str, float] = defaultdict(float)
    for row in rows:
        sums[row["operator"].split(",")[0]] += row["ms"]
    return {kind: round(total, 1) for kind, total in sorted(sums.items(), key=lambda s: -s[1])}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    results = Path(__file__).parent / "results" / "litert-operators.json"
    parser.add_argument("-o", "--out", type=Path, default=results)
    options = parser.parse_args()
    bundle = Bundle.open(options.model)
    data = {name: bundle.read_variant(file) for name, file in FILES.items()}
    tiles = whole(data, options.tile, options.rounds)
    rows = measure(data, options.tile, options.rounds)
    sums = {name: by_kind(found) for name, found in rows.items()}
    save_record(
        options.out, {"tile_px": options.tile, "tile_ms": tiles, "by_kind": sums, "operators": rows}
    )
    print(json.dumps({"tile_ms": tiles, "by_kind": sums}, indent=2))
    for name, found in rows.items():
        for row in found:
            where = "" if row["xnnpack"] else "NOT XNNPACK"
            print(f"{name} {row['ms']:8.2f} ms {where} {row['operator']} -> {row['gives']}")


if __name__ == "__main__":
    main()
