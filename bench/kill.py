#!/usr/bin/env python3
"""Kills a training run again and again, at random moments, and compares where it ends with a run that was left alone.

    cargo build --release && bench/kill.py --kills 300

Half of the kills come at a random time, the other half as soon as a checkpoint is being written: when its temporary file
shows. Every life goes on from what the last one left. At the end every tensor of every checkpoint that is kept must have
the same bits, and the logged losses must be the same. Needs Python's standard library only. A seed makes the same draws,
though not the same moments: those depend on the machine.
"""

import argparse
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

SIDE = 8
SETTINGS = """data.kind=idx data.path=data model.hidden=[96,64] train.batch=64 train.log_every=1 train.checkpoint_every=3
train.evaluate_every=20 train.keep_checkpoints=3 sparsity.forward=0.8 sparsity.backward=0.6 sparsity.refresh_every=5
sparsity.explore=mixed optimizer.kind=adamw optimizer.lr=0.0003 model.dropout=0.1"""
NEWEST = "checkpoint/state.safetensors"
TEMPORARY = NEWEST + ".tmp"


def idx_files(count):
    """Images whose bright quadrant is their class, under noise, and their labels."""
    draw = random.Random(count)
    images = bytearray(b"\0\0\x08\x03" + struct.pack(">III", count, SIDE, SIDE))
    labels = bytearray(b"\0\0\x08\x01" + struct.pack(">I", count))
    for sample in range(count):
        labels.append(sample % 4)
        for pixel in range(SIDE * SIDE):
            row, column = divmod(pixel, SIDE)
            bright = row // (SIDE // 2) * 2 + column // (SIDE // 2) == sample % 4
            images.append(draw.randrange(156) + (40 if bright else 0))
    return images, labels


def write_data(folder):
    os.makedirs(folder)
    for prefix, count in (("train", 640), ("t10k", 64)):
        for name, content in zip(("images-idx3-ubyte", "labels-idx1-ubyte"), idx_files(count)):
            with open(os.path.join(folder, f"{prefix}-{name}"), "wb") as file:
                file.write(content)


def tensors(path):
    """The bytes of every tensor; the metadata, which has times, is left out."""
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    return {name: data[slice(*about["data_offsets"])] for name, about in header.items() if name != "__metadata__"}


def checkpoints(run):
    """Every checkpoint that the run keeps, by its path within the run."""
    found = {}
    for folder in ("checkpoint", "checkpoint-best", "checkpoint-older"):
        for name in os.listdir(os.path.join(run, folder)):
            found[f"{folder}/{name}"] = tensors(os.path.join(run, folder, name))
    return found


def records(run):
    """What was logged of each step, without times."""
    with open(os.path.join(run, "metrics.jsonl")) as file:
        logged = [json.loads(line) for line in file]
    keep = lambda name: not any(part in name for part in ("second", "ms"))
    return [{name: value for name, value in record.items() if keep(name)} for record in logged]


def life(command, moment, run):
    """Starts the command and kills it: after so many seconds, or, with none, when a checkpoint is being written."""
    with open("last-life.log", "w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
        start, temporary, writes = time.monotonic(), os.path.join(run, TEMPORARY), random.randrange(1, 12)
        while child.poll() is None:
            if moment is not None and time.monotonic() - start >= moment:
                break
            if moment is None and os.path.exists(temporary):
                writes -= 1
                if writes == 0:
                    time.sleep(random.uniform(0, 0.002))
                    break
                while os.path.exists(temporary) and child.poll() is None:
                    time.sleep(0.0001)
            time.sleep(0.0002)
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
        return child.wait()


def compare(run, whole):
    """The differences between two runs, each in words."""
    ours, theirs = checkpoints(run), checkpoints(whole)
    wrong = [f"{name} is kept by one only" for name in sorted(ours.keys() ^ theirs.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        one, other = ours[name], theirs[name]
        wrong += [f"{name}: {tensor}" for tensor in sorted(one.keys() | other.keys()) if one.get(tensor) != other.get(tensor)]
    if records(run) != records(whole):
        wrong.append("metrics.jsonl")
    return wrong, sum(len(data) for data in ours.get(NEWEST, {}).values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--topkast", default="target/release/topkast", help="the binary")
    parser.add_argument("--steps", type=int, default=3000, help="of a run; a run that ends is compared, and another begun")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    binary = os.path.abspath(arguments.topkast)
    place = tempfile.mkdtemp(prefix="topkast-kill-")
    os.chdir(place)
    write_data("data")
    settings = [word for setting in f"{SETTINGS} train.steps={arguments.steps}".split() for word in ("--set", setting)]
    train = lambda out: [binary, "train", "--quiet", "--threads", "1", "--out", out, *settings]
    start = time.monotonic()
    subprocess.run(train("whole"), check=True, stdout=subprocess.DEVNULL)
    span = time.monotonic() - start
    print(f"{place}: the run takes {span:.1f} s when it is left alone", flush=True)

    kills, in_writing, runs, lost, differ = 0, 0, 0, 0, 0
    while kills < arguments.kills or runs == 0:
        run = f"run-{runs}"
        while True:
            begun = os.path.exists(os.path.join(run, "config.toml"))
            command = [binary, "train", "--quiet", "--threads", "1", "--resume", run] if begun else train(run)
            if kills >= arguments.kills:
                moment = float("inf")
            else:
                moment = random.uniform(0, min(2.0, span / 4)) if random.random() < 0.5 else None
            status = life(command, moment, run)
            if status == -signal.SIGKILL:
                kills += 1
                in_writing += os.path.exists(os.path.join(run, TEMPORARY))
                if kills % 25 == 0:
                    print(f"{kills} kills, {in_writing} of them while a checkpoint was written", flush=True)
            elif status == 0:
                break
            else:
                lost += 1
                with open("last-life.log") as log:
                    print(f"{run} is lost: exit status {status}: {log.read().strip()}", flush=True)
                break
        runs += 1
        if status == 0:
            wrong, size = compare(run, "whole")
            differ += bool(wrong)
            print(f"{run} has ended after {kills} kills in all; " + ("; ".join(wrong) or f"all {size} bytes of tensors are the same"), flush=True)
        if lost + differ == 0:
            shutil.rmtree(run)
    print(f"{kills} kills ({in_writing} while a checkpoint was written), {runs} runs, {lost} lost, {differ} with other bits")
    if lost + differ == 0:
        shutil.rmtree(place)
    return 1 if lost + differ else 0


if __name__ == "__main__":
    sys.exit(main())
