"""onnxruntime in a process of its own: `python -m exports.worker MODEL --threads T` prints its times as JSON, as `topkast bench inference`
does. The calls are those: one after a tenth of them that does not count, and a twentieth as many with 256 at a time."""

import argparse
import json
import time

import numpy

from .check import session

BATCH = 256


def times(count: int, call) -> numpy.ndarray:
    for _ in range(-(-count // 10)):
        call()
    found = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return numpy.array(found) * 1e3


def inputs(run, count: int) -> dict[str, numpy.ndarray]:
    """What the network is given for `count` answers; a memory is as full as attention sees."""
    random, given = numpy.random.default_rng(1), {}
    kept = next((output for output in run.get_outputs() if output.name == "memory.0.next"), None)
    for value in run.get_inputs():
        if value.name == "tokens":
            given[value.name] = random.integers(0, 256, count)
        elif value.name == "pixels":
            given[value.name] = random.integers(0, 256, (count, *value.shape[1:])).astype(numpy.float32)
    if kept:
        empty = {value.name: numpy.zeros((0, value.shape[1]), numpy.float32) for value in run.get_inputs()[1:]}
        names = [output.name for output in run.get_outputs()]
        results = dict(zip(names, run.run(None, {"tokens": random.integers(0, 256, 8192), **empty})))
        given |= {name: results[f"{name}.next"] for name in empty}
    return given


def main() -> None:
    parser = argparse.ArgumentParser(prog="exports.worker")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--answers", type=int, default=1000)
    arguments = parser.parse_args()
    run = session(arguments.model, arguments.threads)
    one, many = inputs(run, 1), inputs(run, BATCH)
    singles = times(arguments.answers, lambda: run.run(None, one))
    batches = times(arguments.answers // 20, lambda: run.run(None, many))
    print(
        json.dumps(
            {
                "latency_ms_median": float(numpy.median(singles)),
                "latency_ms_p95": float(numpy.percentile(singles, 95)),
                "batch_ms_median": float(numpy.median(batches)),
                "answers_per_second": BATCH / float(numpy.median(batches)) * 1e3,
            }
        )
    )


if __name__ == "__main__":
    main()
