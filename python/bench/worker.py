"""One contestant's process: a request a line in, an answer a line out. It computes only in between."""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch
from contestants import block, layer


def timed(step, seconds: float) -> float:
    """The median milliseconds of calls in so many seconds, at least three, after one that warms the caches."""
    step()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    library, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(threads)
    step, sizes, prepared = None, lambda: {}, None
    for line in sys.stdin:
        case = json.loads(line)
        if case != prepared:
            step = None
            if case["kind"] == "layer":
                step = layer(library, *case["shape"], case["forward"], case["backward"])
            else:
                sparsity = (0.0, 0.0) if library == "dense" else (case["forward"], case["backward"])
                step, sizes = block(*sparsity)
            prepared = case
        answer = {"ms": timed(step, seconds), **sizes()}
        print(json.dumps(answer), flush=True)


main()
