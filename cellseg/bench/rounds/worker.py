"""One round of one contestant: ``python -m cellseg.bench.rounds.worker TASK``.

The task is JSON on the command line, the round is JSON on the last line of the output. A process a
round is what makes intervals honest: where memory comes to lie, and which cores it gets, differs
from process to process and not within one. It also confines an engine that takes its process down.
"""

from __future__ import annotations

import sys
import time

STARTED_S = time.perf_counter()  # before anything else is imported


def main(words: list[str]) -> None:
    """Run the task and print the round."""
    from cellseg.bench.rounds.scenarios import run_scenario
    from cellseg.bench.rounds.task import Task
    from cellseg.errors import CellsegError

    task = Task.model_validate_json(words[0])
    imports_s = time.perf_counter() - STARTED_S
    try:
        done = run_scenario(task)
    except CellsegError as error:
        sys.exit(f"{error}" + (f" hint: {error.hint}" if error.hint else ""))
    except MemoryError as error:
        sys.exit(f"The memory does not hold it: {error}")
    if task.contestant.scenario == "cold":
        done = done.model_copy(update={"parts_s": {"imports": imports_s, **done.parts_s}})
    print(done.model_dump_json(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
