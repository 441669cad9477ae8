"""`bench/export RUN…`: checks exports of trained networks and times answers from them."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import onnxruntime
from rivals import machine

from .check import check
from .topkast import Topkast

COLUMNS = ["latency_ms_median", "latency_ms_p95", "answers_per_second"]


def timed(topkast: Topkast, files: dict[str, Path], threads: int, rounds: int, answers: int) -> dict[str, dict[str, float]]:
    """The medians over rounds in which both take a turn, each in a process of its own, another one first each time."""

    def ours() -> dict:
        words = ["bench", "inference", files["sparse"], "--threads", threads, "--answers", answers]
        return topkast.json(*words)[0]

    def theirs() -> dict:
        words = ["-m", "exports.worker", files["onnx"], "--threads", threads, "--answers", answers]
        done = subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True, text=True, env=os.environ)
        return json.loads(done.stdout)

    turns: dict[str, list[dict]] = {"topkast": [], "onnxruntime": []}
    for number in range(rounds):
        order = [("topkast", ours), ("onnxruntime", theirs)]
        for who, turn in order if number % 2 == 0 else reversed(order):
            turns[who].append(turn())
    return {who: {key: statistics.median(turn[key] for turn in all) for key in COLUMNS} for who, all in turns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/export", description=__doc__)
    parser.add_argument("run", nargs="+", type=Path, help="run directories")
    parser.add_argument("--topkast", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; 0 checks only")
    parser.add_argument("--answers", type=int, default=1000, help="answers of a turn, one by one; a twentieth as many batches of 256")
    arguments = parser.parse_args()
    topkast = Topkast(arguments.topkast.resolve())
    print(f"{machine.processor(machine.printed('lscpu')).get('Model name', '')}, {arguments.threads} thread(s), onnxruntime {onnxruntime.__version__}\n")
    print("| network | file, bytes | share of ONNX's | differences | | one answer, ms | 95th percentile | 256 at a time, a second |")
    print("|---|---|---|---|---|---|---|---|")
    for run in arguments.run:
        with tempfile.TemporaryDirectory() as folder:
            _, files, found = check(topkast, run, Path(folder))
            sizes = {form: file.stat().st_size for form, file in files.items()}
            off = ", ".join(f"{who} {value:.0e}" for who, value in found.items())
            first = f"| {run.name} | {sizes['sparse']} | {sizes['sparse'] / sizes['onnx']:.1%} | {off}"
            if arguments.rounds == 0:
                print(f"{first} | | | | |")
                continue
            times = timed(topkast, files, arguments.threads, arguments.rounds, arguments.answers)
            for who, row in times.items():
                latency, late, throughput = (row[column] for column in COLUMNS)
                print(f"{first} | {who} | {latency:.4f} | {late:.4f} | {throughput:,.0f} |", flush=True)
                first = f"| | {sizes['onnx']} | | "
            latency, _, throughput = ([times[who][column] for who in times] for column in COLUMNS)
            print(f"| | | | | ratio | {latency[1] / latency[0]:.2f} | | {throughput[0] / throughput[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
