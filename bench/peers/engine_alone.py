"""Engines by their own programs: OpenVINO's benchmark_app and ONNX Runtime's test tool.

Neither reads, tiles nor joins anything; random pixels go in. ``precision`` of the request names the
program: ``benchmark_app`` or ``onnxruntime_test``. What is said is megapixels of input a second.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from driver import Request

TOOL = """
import sys, onnxruntime as ort
from onnxruntime.tools import onnxruntime_test
make, threads = ort.InferenceSession, int(sys.argv[3])
def session(path, sess_options=None, providers=None):
    options = sess_options or ort.SessionOptions()
    options.intra_op_num_threads = threads
    return make(path, options, providers=["CPUExecutionProvider"])
onnxruntime_test.onnxrt.InferenceSession = session
onnxruntime_test.run_model(sys.argv[1], int(sys.argv[2]))
"""


def benchmark_app(request: Request, seconds: float) -> float:
    """Run OpenVINO's program with its hint for throughput; tiles a second.

    It takes either a hint or a number of threads, so the cores that it may use are limited instead.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[: request.threads]
        os.sched_setaffinity(0, cores)
    command = [
        str(Path(sys.executable).with_name("benchmark_app")), "-m", request.model, "-d", "CPU",
        "-hint", "throughput", "-t", str(max(1, round(seconds))), "-infer_precision", "f32",
    ]  # fmt: skip
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.findall(r"Throughput:\s*([0-9.]+)", said)[-1])


def onnxruntime_test(request: Request, seconds: float) -> float:
    """Run ONNX Runtime's tool for about as long; tiles a second."""
    calls = max(3, int(seconds * _tool(request, 3)))
    return _tool(request, calls)


def _tool(request: Request, calls: int) -> float:
    command = [sys.executable, "-c", TOOL, request.model, str(calls), str(request.threads)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (milliseconds,) = re.findall(r"avg latency: ([0-9.]+) ms", said)
    return 1e3 / float(milliseconds)


PROGRAMS = {"benchmark_app": benchmark_app, "onnxruntime_test": onnxruntime_test}


def main() -> None:
    """Print megapixels a second, as the other drivers print seconds."""
    said = json.loads(sys.argv[1])
    seconds = said.pop("seconds")
    request = Request(**said)
    started = time.perf_counter()
    tiles_s = PROGRAMS[request.precision](request, seconds)
    mpx_s = tiles_s * request.patch_px**2 / 1e6
    print(json.dumps({"work_s": time.perf_counter() - started, "mpx_s": mpx_s}), flush=True)


if __name__ == "__main__":
    main()
