"""A worker that measures nothing: its rounds are quick.

One engine takes its process down; with three tiles a query the machine sleeps and throttles.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    task = json.loads(sys.argv[1])
    who = task["contestant"]
    if who["engine"] == "onnxruntime" and task["turn"] == 1:
        print("a last word", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    times = [10.0 + i % 3 for i in range(max(6, task["samples"]))]
    found = {
        "turn": task["turn"],
        "seconds": sum(times) / 1e3,
        "samples_ms": times,
        "kept_px": 1e6,
        "computed_px": 1.5e6,
        "mpp": 0.5,
        "parts_s": {"imports": 0.1, "engine": 0.2} if who["scenario"] == "cold" else {},
    }
    if who["batch"] == 3:
        found["state"] = {"slept_s": 30.0, "throttle_events": 2}
    print("words of a library on stdout")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
