"""Who is measured, how each is called, and the processes they run in."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from .cases import Case, as_rivals_see, to_json
from .timing import Parts


class Failed(Exception):
    """Why a contestant is not timed."""


@dataclass(frozen=True)
class Variant:
    """One way of calling a rival. `name` is the rival's in tables, `path` the worker's."""

    name: str
    path: str
    passive: bool

    @property
    def label(self) -> str:
        return f"{self.path}, passive" if self.passive else self.path


class Contestant(Protocol):
    """Someone who does one case's work when it is their turn."""

    @property
    def key(self) -> tuple[str, str]: ...

    def prepare(self, case: Case) -> None: ...

    def visit(self) -> dict[tuple[str, str], Parts]:
        """The median milliseconds of one turn, by rival and variant (Topkast's turn times its dense path as well)."""
        ...

    def parts(self) -> dict[tuple[str, str], Parts]:
        """What the milliseconds of a step go to, where that is known."""
        ...

    def close(self) -> None: ...


LAYER_PATHS = {
    "PyTorch dense": ["dense-autograd", "dense-products"],
    "PyTorch CSR": ["csr-mkl", "csr-reduce", "csr-autograd"],
    "sparselab": ["sparselab"],
    "SparseProp": ["sparseprop"],
}
STEP_PATHS = {
    "PyTorch dense": ["step-eager", "step-foreach", "step-fused", "step-fused-flush", "step-compile-fused"],
}

BLOCK_PATHS = {
    "PyTorch dense": [
        *("block-eager", "block-foreach", "block-fused", "block-fused-flush", "block-compile-fused"),
        *("block-sdpa-foreach", "block-sdpa-fused", "block-sdpa-compile-fused"),
    ],
}

CONVOLUTION_PATHS = {
    "PyTorch dense": ["convolution-dense", "convolution-dense-last"],
    "SparseProp": ["convolution-sparseprop", "convolution-sparseprop-pixels"],
}
RESNET_PATHS = {"PyTorch dense": ["resnet-eager", "resnet-last", "resnet-last-compile"]}


def variants(paths: dict[str, list[str]], threads: int) -> list[Variant]:
    """Every path of every rival, with OpenMP's threads waiting busily and passively where there are any to wait."""
    policies = [False, True] if threads > 1 else [False]
    return [Variant(name, path, passive) for name in paths for path in paths[name] for passive in policies]


def environment(threads: int, passive: bool) -> dict[str, str]:
    """Threads, and an allocator that keeps its memory: some rivals allocate their outputs in every call, and would spend
    much of their time on page faults."""
    extra = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
        "MALLOC_TOP_PAD_": str(1 << 26),
        "PYTHONWARNINGS": "ignore",
    }
    if passive:
        extra["OMP_WAIT_POLICY"] = "passive"
    return {**os.environ, **extra}


def medians(times: list[Parts]) -> Parts:
    """The median of each part over the rounds of one turn."""
    return {part: median(time[part] for time in times) for part in times[0]}


class Worker:
    """A rival's long-lived process. It computes only between a request and its answer."""

    def __init__(self, variant: Variant, threads: int, seconds: float) -> None:
        self.key = (variant.name, variant.label)
        self.seconds = seconds
        self.command = [sys.executable, "-m", "rivals.worker", variant.path, "--threads", str(threads)]
        self.environment = environment(threads, variant.passive)
        self.process: subprocess.Popen[str] | None = None
        self.prepared: Case | None = None

    def prepare(self, case: Case) -> None:
        seen = as_rivals_see(case)
        if seen != self.prepared:
            self.prepared = None
            self._ask({"do": "prepare", "case": to_json(seen)})
            self.prepared = seen

    def visit(self) -> dict[tuple[str, str], Parts]:
        reply = self._ask({"do": "run", "seconds": self.seconds, "at_least": 3})
        return {self.key: medians(reply["times"])}

    def parts(self) -> dict[tuple[str, str], Parts]:
        parts = self._ask({"do": "parts"})["parts"]
        return {self.key: parts} if parts else {}

    def close(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.prepared = None

    def _ask(self, request: dict, limit: float = 600) -> dict:
        if not self.process:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        process = self.process
        assert process.stdin and process.stdout
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            ready, _, _ = select.select([process.stdout], [], [], limit)
            line = process.stdout.readline() if ready else ""
        except BrokenPipeError:
            line = ""
        if not line:
            why = f"exit status {process.poll()}" if process.poll() is not None else f"no answer in {limit:.0f} s"
            self.close()
            raise Failed(f"its process ended: {why}")
        reply = json.loads(line)
        if not reply["ok"]:
            raise Failed(reply["error"])
        return reply
