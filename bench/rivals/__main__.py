"""`bench/run` ends here: measures what the arguments say and writes the record."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import time
from datetime import date
from pathlib import Path

from . import machine
from .cases import Case, block_cases, convolution_cases, layer_cases, resnet_cases, step_cases
from .contestants import (
    BLOCK_PATHS,
    CONVOLUTION_PATHS,
    LAYER_PATHS,
    RESNET_PATHS,
    STEP_PATHS,
    Contestant,
    Worker,
    variants,
)
from .measure import Cell, measure
from .record import Record, page, raw
from .topkast import Topkast

QUICK_ROUNDS = 3
BUSY_LOAD = 0.3
KINDS = {
    "layer": (layer_cases, LAYER_PATHS),
    "step": (step_cases, STEP_PATHS),
    "block": (block_cases, BLOCK_PATHS),
    "convolution": (convolution_cases, CONVOLUTION_PATHS),
    "resnet": (resnet_cases, RESNET_PATHS),
}
"""What there is to measure: its cases, and the ways of calling the rivals."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run", description="Times Topkast beside other ways to train on a CPU.")
    parser.add_argument("--only", choices=KINDS, help="measure one kind of work only")
    parser.add_argument("--threads", default="1,2", help="thread counts, one after the other (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help="turns of each contestant in each case (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.3, help="least time of a rival's turn (default: %(default)s)")
    parser.add_argument("--match", default="", metavar="REGEX", help='cases to measure, by shape and sparsity: "batch 128.*98/"')
    parser.add_argument("--quick", action="store_true", help=f"a few cases, {QUICK_ROUNDS} rounds: does it work at all?")
    parser.add_argument("--out", type=Path, help="folder of the record (default: docs/benchmarks, with --quick target)")
    parser.add_argument("--topkast", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def progress(text: str, start: float) -> None:
    print(f"[{(time.monotonic() - start) / 60:5.1f} min] {text}", file=sys.stderr, flush=True)


def run(options: argparse.Namespace, kind: str, threads: int, rounds: int, machine_facts: dict[str, str]) -> list[Cell]:
    """All cases of one kind on so many threads, with one set of worker processes."""
    start = time.monotonic()
    all_cases, paths = KINDS[kind]
    cases: list[Case] = [case for case in all_cases(options.quick) if re.search(options.match, f"{case.name}, {case.sparsity}")]
    ours = Topkast(options.topkast, threads)
    contestants: list[Contestant] = [ours, *(Worker(variant, threads, options.seconds) for variant in variants(paths, threads))]
    cells = []
    try:
        for number, case in enumerate(cases, 1):
            progress(f"{kind} {number}/{len(cases)}, {threads} thread(s): {case.name}, {case.sparsity}", start)
            cells.append(measure(contestants, case, threads, rounds))
            cells[-1].report = ours.report
            for who, why in cells[-1].failures.items():
                progress(f"not timed: {', '.join(who)}: {why}", start)
    finally:
        for contestant in contestants:
            contestant.close()
    peaks = [(cell.report["fma_peak_gflops"], cell.report["isa"]) for cell in cells if "fma_peak_gflops" in cell.report]
    if peaks:
        peak, isa = max(peaks)
        machine_facts[f"FMA peak, {threads} thread(s)"] = f"{peak:.0f} GFLOP/s, {isa}"
    return cells


def main() -> None:
    options = arguments()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else 7)
    if os.getloadavg()[0] > BUSY_LOAD:
        warning = "this machine is busy: what takes longer suffers more from that, so ratios will be too good"
        print(f"warning: {warning}", file=sys.stderr)
    folder = options.out or machine.ROOT / ("target" if options.quick else "docs/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["bench/run", *what_was_measured(sys.argv[1:])])
    record = Record(date.today().isoformat(), command, rounds, machine.describe(options.topkast), [])
    path = folder / "-".join(filter(None, [record.date, "rivals", options.only]))
    for kind in [options.only] if options.only else KINDS:
        for threads in map(int, options.threads.split(",")):
            record.cells += run(options, kind, threads, rounds, record.machine)
            # After each part, so that an hour's work is not lost with the next.
            path.with_suffix(".json").write_text(json.dumps(raw(record), indent=1, ensure_ascii=False) + "\n")
            path.with_suffix(".md").write_text(page(record))
    print(path.with_suffix(".md"))


def what_was_measured(given: list[str]) -> list[str]:
    """The arguments as typed, without where the record goes: bench/run adds `--topkast` and the binary in front of them."""
    typed = given[2:] if given[:1] == ["--topkast"] else given
    kept = [word for before, word in zip(["", *typed], typed) if before != "--out" and word != "--out"]
    return [word for word in kept if not word.startswith("--out=")]


if __name__ == "__main__":
    main()
