"""Times the PyTorch package beside sparselab, SparseProp and PyTorch's dense layers: one process each, turn by turn.

    python run.py layer --threads 1 --record layer.json
    python run.py block --threads 2

Needs topkast, sparselab and sparseprop in this interpreter (versions: bench/requirements*.txt).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from contestants import environment

SHAPES = [(1024, 1024, 128), (2048, 512, 1024), (4096, 1024, 256)]
LAYERS = [(0.9, 0.9), (0.95, 0.95), (0.98, 0.98)]
BLOCKS = [(0.9, 0.8), (0.98, 0.95)]


class Worker:
    def __init__(self, library: str, threads: int, passive: bool, seconds: float) -> None:
        self.library, self.label = library, library + (", passive" if passive else "")
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), library, str(threads), str(seconds)]
        self.process = subprocess.Popen(
            command, env=environment(threads, passive), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def turn(self, case: dict[str, Any]) -> dict[str, float]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)


def cases(kind: str) -> list[dict[str, Any]]:
    if kind == "block":
        return [{"kind": kind, "forward": forward, "backward": backward} for forward, backward in BLOCKS]
    return [
        {"kind": kind, "shape": shape, "forward": forward, "backward": backward}
        for shape in SHAPES
        for forward, backward in LAYERS
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["layer", "block"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    libraries = ["dense", "topkast"] if arguments.kind == "block" else ["dense", "sparselab", "sparseprop", "topkast"]
    policies = [False, True] if arguments.threads > 1 else [False]
    record = []
    for case in cases(arguments.kind):
        # Peak memory is a case's own.
        fresh = arguments.kind == "block" or not record
        if fresh:
            workers = [
                Worker(library, arguments.threads, passive, arguments.seconds)
                for library in libraries
                for passive in policies
            ]
        turns: dict[str, list[dict[str, float]]] = {worker.label: [] for worker in workers}
        for round_number in range(arguments.rounds):
            at = round_number % len(workers)
            for worker in workers[at:] + workers[:at]:
                turns[worker.label].append(worker.turn(case))
        record.append({**case, "threads": arguments.threads, "turns": turns})
        print(line(case, turns, libraries), flush=True)
        if arguments.kind == "block" or len(record) == len(cases(arguments.kind)):
            for worker in workers:
                worker.close()
    if arguments.record:
        versions = {name: importlib.metadata.version(name) for name in ("torch", "sparselab", "sparseprop")}
        arguments.record.write_text(json.dumps({"versions": versions, "cases": record}, indent=1) + "\n")


def line(case: dict[str, Any], turns: dict[str, list[dict[str, float]]], libraries: list[str]) -> str:
    """Each library's best way, in milliseconds, and how many times as long as ours."""
    best = {}
    for library in libraries:
        of_library = [of_label for label, of_label in turns.items() if label.split(",")[0] == library]
        best[library] = min(statistics.median(turn["ms"] for turn in of_label) for of_label in of_library)
    parts = [f"{library} {ms:.2f} ({ms / best['topkast']:.2f}x)" for library, ms in best.items()]
    last = {label.split(",")[0]: of_label[-1] for label, of_label in turns.items()}
    for library, answer in last.items():
        if "peak" in answer:
            parts.append(
                f"{library}: weights, gradients and moments {answer['training'] / 2**20:.1f} MiB, sets and C "
                f"{answer['structure'] / 2**20:.1f} MiB, process {answer['peak'] / 2**20:.0f} MiB"
            )
    shape = "x".join(map(str, case.get("shape", []))) or case["kind"]
    return f"{shape} {case['forward']}/{case['backward']}: " + "; ".join(parts)


if __name__ == "__main__":
    main()
